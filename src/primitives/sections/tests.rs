use proptest::prelude::*;

use super::*;

/// A section that another version of it wrote in another way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Names(Vec<String>);

/// The first version of [`Names`]: one name.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Name(String);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Numbers(Vec<(u64, u128)>);

impl Section for Names {
    const NAME: &'static str = "names";
    const VERSION: u16 = 2;
    const LARGEST: usize = 1000;

    fn earlier(version: u16, bytes: &[u8]) -> Option<Self> {
        let name: Name = (version == 1).then(|| postcard::from_bytes(bytes).ok())??;
        Some(Self(vec![name.0]))
    }
}

impl Section for Name {
    const NAME: &'static str = Names::NAME;
    const VERSION: u16 = 1;
    const LARGEST: usize = 1000;
}

impl Section for Numbers {
    const NAME: &'static str = "numbers";
    const VERSION: u16 = 1;
    const LARGEST: usize = 1 << 20;
}

fn written(names: &Names, numbers: &Numbers) -> Vec<u8> {
    let mut sections = Sections::at(Duration::from_millis(1_234));
    sections.put(names).expect("put");
    sections.put(numbers).expect("put");
    sections.encode().expect("encoded")
}

fn sample() -> (Names, Numbers) {
    let names = ["one", "two"].map(str::to_owned);
    (Names(names.into()), Numbers(vec![(7, 1 << 100), (0, 0)]))
}

/// Which of the two sections are lost; what is not lost is what was written.
fn lost(bytes: &[u8]) -> Option<[bool; 2]> {
    let (names, numbers) = sample();
    let read = Sections::decode(bytes).ok()?;
    assert_eq!(read.at, Duration::from_millis(1_234));
    let names = match read.get::<Names>() {
        Ok(read) => {
            assert_eq!(read, Some(names));
            false
        }
        Err(error) => {
            assert_eq!(error, SectionError::Damaged);
            true
        }
    };
    let numbers = match read.get::<Numbers>() {
        Ok(read) => {
            assert_eq!(read, Some(numbers));
            false
        }
        Err(_) => true,
    };
    Some([names, numbers])
}

#[test]
fn a_flipped_bit_takes_at_most_its_own_section() {
    let (names, numbers) = sample();
    let whole = written(&names, &numbers);
    assert_eq!(lost(&whole), Some([false, false]));
    let mut taken = [0, 0];
    for at in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        let lost = lost(&bytes).expect("one of two directories");
        assert_ne!(lost, [true, true], "bit {at}");
        taken[0] += usize::from(lost[0]);
        taken[1] += usize::from(lost[1]);
    }
    let length = |bytes: Vec<u8>| 8 * bytes.len();
    let lengths = [
        length(postcard::to_allocvec(&names).expect("encoded")),
        length(postcard::to_allocvec(&numbers).expect("encoded")),
    ];
    assert_eq!(taken, lengths, "each bit of a section, and none besides");
}

#[test]
fn what_is_cut_off_takes_only_what_was_in_it() {
    let (names, numbers) = sample();
    let whole = written(&names, &numbers);
    let mut before = None;
    for cut in 0..whole.len() {
        let now = lost(&whole[..cut]);
        // The longer, the less is lost.
        let count =
            |lost: Option<[bool; 2]>| lost.map_or(3, |lost| lost.iter().filter(|l| **l).count());
        assert!(count(now) <= count(before), "{cut}");
        before = now;
        // From the front: the last directory is whole as long as it is there.
        lost(&whole[cut..]);
    }
    assert_eq!(
        before,
        Some([false, false]),
        "the last directory is a spare one"
    );
}

#[test]
fn what_is_longer_than_it_should_be_is_read_as_far_as_it_is_known() {
    let (names, numbers) = sample();
    let whole = written(&names, &numbers);
    let behind = [&whole[..], b"more"].concat();
    assert_eq!(lost(&behind), Some([false, false]));
    assert_eq!(lost(&[b"more", &whole[..]].concat()), Some([false, false]));
    assert_eq!(lost(&[b"more", &whole[..], b"more"].concat()), None);
}

#[test]
fn a_section_of_a_later_version_is_refused_alone() {
    let (names, numbers) = sample();
    let read = Sections::decode(&written(&names, &numbers)).expect("read");
    let later = SectionError::Later { found: 2, known: 1 };
    assert_eq!(read.get::<Name>(), Err(later));
    assert_eq!(read.get::<Numbers>(), Ok(Some(numbers)));
}

#[test]
fn a_section_of_an_earlier_version_is_read() {
    let mut sections = Sections::default();
    sections.put(&Name("one".into())).expect("put");
    assert_eq!(sections.get(), Ok(Some(Names(vec!["one".into()]))));
}

#[test]
fn a_section_that_nobody_knows_is_skipped() {
    let (names, _) = sample();
    let mut sections = Sections::default();
    sections.put(&names).expect("put");
    let read = Sections::decode(&sections.encode().expect("encoded")).expect("read");
    assert_eq!(read.get::<Numbers>(), Ok(None));
}

#[test]
fn a_section_larger_than_it_may_be_is_neither_written_nor_read() {
    let large = Names(vec!["x".repeat(2000)]);
    let mut sections = Sections::default();
    let bytes = postcard::to_allocvec(&large).expect("encoded");
    let length = bytes.len();
    assert_eq!(sections.put(&large), Err(SectionError::Large(length)));
    sections.kept.push(Kept {
        name: Names::NAME.into(),
        version: Names::VERSION,
        bytes: Some(bytes),
    });
    assert_eq!(sections.get::<Names>(), Err(SectionError::Large(length)));
}

#[test]
fn a_count_that_is_not_there_is_not_believed() {
    let mut sections = Sections::default();
    // So many numbers, and none of them.
    let bytes = postcard::to_allocvec(&u64::MAX).expect("encoded");
    sections.kept.push(Kept {
        name: Numbers::NAME.into(),
        version: Numbers::VERSION,
        bytes: Some(bytes),
    });
    assert_eq!(sections.get::<Numbers>(), Err(SectionError::Senseless));
}

proptest! {
    #[test]
    fn sections_come_back_as_they_were(
        names in prop::collection::vec(".{0,20}", 0..10),
        numbers in prop::collection::vec((any::<u64>(), any::<u128>()), 0..50),
    ) {
        let (names, numbers) = (Names(names), Numbers(numbers));
        let read = Sections::decode(&written(&names, &numbers)).expect("read");
        prop_assert_eq!(read.get(), Ok(Some(names)));
        prop_assert_eq!(read.get(), Ok(Some(numbers)));
    }

    #[test]
    fn no_bytes_are_too_strange(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400),
        framed in any::<bool>(),
    ) {
        if framed {
            bytes.splice(0..0, MAGIC);
            bytes.extend(MAGIC);
        }
        prop_assert_eq!(Sections::decode(&bytes), Err(SectionsError::Unknown));
    }

    #[test]
    fn strange_bytes_in_a_section_are_refused_or_read_and_never_more(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut sections = Sections::default();
        sections.kept.push(Kept { name: Names::NAME.into(), version: 2, bytes: Some(bytes) });
        prop_assert!(!matches!(sections.get::<Names>(), Ok(None)));
    }
}
