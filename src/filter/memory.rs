//! What filters remember of one request, from one call to the next.
//!
//! A filter serves many requests at once and keeps nothing of any of them in itself. What it knew when it was asked first
//! it finds here when it is asked again: with the body, or to give back. What fits into three numbers is kept in place, since
//! every request that meets a limit has such a note; anything else has a box of its own. A request whose filters remember
//! nothing takes no memory for it.

use std::any::Any;

use smallvec::SmallVec;

/// What fits into three numbers.
pub trait Note: Copy {
    /// The numbers of the note.
    fn to_numbers(self) -> [u64; 3];

    /// The note that has these numbers.
    fn of_numbers(numbers: [u64; 3]) -> Self;
}

/// One thing remembered.
enum Slot {
    Numbers([u64; 3]),
    Boxed(Box<dyn Any + Send + Sync>),
}

/// What filters remember of one request, the last on top. Each owner finds its own again by its address, which is why an
/// owner must not move while the request lasts: filters stand in an `Arc`.
#[derive(Default)]
pub struct Memory {
    slots: SmallVec<[(usize, Slot); 4]>,
}

impl Memory {
    /// Notes something small for `owner`, on top of what it noted before.
    pub fn note<N: Note>(&mut self, owner: &impl Sized, note: N) {
        self.push(address(owner), Slot::Numbers(note.to_numbers()));
    }

    /// What `owner` noted last, which stays.
    pub fn noted<N: Note>(&self, owner: &impl Sized) -> Option<N> {
        let at = self.last_of(address(owner))?;
        match &self.slots.get(at)?.1 {
            Slot::Numbers(numbers) => Some(N::of_numbers(*numbers)),
            Slot::Boxed(_) => None,
        }
    }

    /// What `owner` noted last, which is forgotten.
    pub fn take_note<N: Note>(&mut self, owner: &impl Sized) -> Option<N> {
        let note = self.noted(owner)?;
        self.last_of(address(owner)).map(|at| self.slots.remove(at));
        Some(note)
    }

    /// Keeps anything for `owner`, in a box.
    pub fn keep<T: Any + Send + Sync>(&mut self, owner: &impl Sized, kept: T) {
        self.push(address(owner), Slot::Boxed(Box::new(kept)));
    }

    /// What `owner` kept last, if it is a `T`; it is kept no longer.
    pub fn take<T: Any>(&mut self, owner: &impl Sized) -> Option<T> {
        let at = self.last_of(address(owner))?;
        match &self.slots.get(at)?.1 {
            Slot::Boxed(kept) if kept.is::<T>() => {}
            _ => return None,
        }
        match self.slots.remove(at).1 {
            Slot::Boxed(kept) => kept.downcast().ok().map(|kept| *kept),
            Slot::Numbers(_) => None,
        }
    }

    /// Whether something is remembered for `owner`.
    pub fn holds<O: ?Sized>(&self, owner: &O) -> bool {
        self.last_of(address(owner)).is_some()
    }

    fn push(&mut self, owner: usize, slot: Slot) {
        self.slots.push((owner, slot));
    }

    fn last_of(&self, owner: usize) -> Option<usize> {
        self.slots.iter().rposition(|(known, _)| *known == owner)
    }
}

fn address<O: ?Sized>(owner: &O) -> usize {
    std::ptr::from_ref(owner).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Mark(u64);

    impl Note for Mark {
        fn to_numbers(self) -> [u64; 3] {
            [self.0, 0, 0]
        }

        fn of_numbers([mark, ..]: [u64; 3]) -> Self {
            Self(mark)
        }
    }

    #[test]
    fn everybody_finds_their_own_and_the_last_first() {
        let owners = [1_u8, 2];
        let mut memory = Memory::default();
        memory.note(&owners[0], Mark(1));
        memory.note(&owners[1], Mark(2));
        memory.note(&owners[0], Mark(3));
        assert_eq!(memory.noted(&owners[0]), Some(Mark(3)), "and it stays");
        assert_eq!(memory.take_note(&owners[0]), Some(Mark(3)));
        assert_eq!(memory.take_note(&owners[0]), Some(Mark(1)));
        assert_eq!(memory.take_note::<Mark>(&owners[0]), None);
        assert!(!memory.holds(&owners[0]) && memory.holds(&owners[1]));
    }

    #[test]
    fn what_is_kept_is_found_as_what_it_is_and_once() {
        let owner = 1_u8;
        let mut memory = Memory::default();
        memory.keep(&owner, "a text".to_owned());
        assert_eq!(memory.take::<u64>(&owner), None, "it is no number");
        assert_eq!(memory.noted::<Mark>(&owner), None, "nor a note");
        assert_eq!(memory.take::<String>(&owner).as_deref(), Some("a text"));
        assert_eq!(memory.take::<String>(&owner), None);
    }

    #[test]
    fn what_fits_in_place_takes_no_memory() {
        let owner = 1_u8;
        let mut memory = Memory::default();
        for mark in 0..4 {
            memory.note(&owner, Mark(mark));
        }
        assert!(!memory.slots.spilled());
    }
}
