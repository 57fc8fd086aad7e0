//! How much of its work a route does: all of it, or less and less.

/// How much of its work a route does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// All of it.
    #[default]
    Normal,
    /// No optional work: no copies of requests, no second tries.
    Lean,
    /// The fallback answers, nobody is asked.
    Fallback,
    /// Nothing: 503.
    Off,
}

impl Level {
    /// All of them, from most to least work.
    pub const ALL: [Self; 4] = [Self::Normal, Self::Lean, Self::Fallback, Self::Off];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Lean => "lean",
            Self::Fallback => "fallback",
            Self::Off => "off",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is none of normal, lean, fallback, off"))
    }

    /// The level with this number.
    pub const fn from_u8(number: u8) -> Self {
        match number {
            0 => Self::Normal,
            1 => Self::Lean,
            2 => Self::Fallback,
            _ => Self::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_come_back_as_they_were() {
        for level in Level::ALL {
            assert_eq!(Level::parse(level.as_str()), Ok(level));
            assert_eq!(Level::from_u8(level as u8), level);
        }
        assert!(Level::parse("Lean").is_err());
    }
}
