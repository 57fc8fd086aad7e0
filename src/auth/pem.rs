//! PEM files in which one public key is looked for.

use super::BuildError;

/// Refuses a file with a further key or certificate: only the first would ever be used.
pub(super) fn only_one(place: &str, pem: &[u8]) -> Result<(), BuildError> {
    let lines = pem.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let begins = |line: &&[u8]| {
        line.starts_with(b"-----BEGIN ")
            && (line.ends_with(b"KEY-----") || line.ends_with(b"CERTIFICATE-----"))
    };
    let count = lines.filter(begins).count();
    if count <= 1 {
        return Ok(());
    }
    Err(BuildError::SeveralKeys {
        place: place.to_owned(),
        count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_text_are_no_second_key() {
        const ONE: &str = "-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----\n";
        let told = |text: &str| only_one("p", text.as_bytes()).is_ok();
        assert!(told(""));
        assert!(told(&format!("of the issuer\r\n{ONE}")));
        assert!(told(&format!(
            "{ONE}-----BEGIN EC PARAMETERS-----\nAA\n-----END EC PARAMETERS-----\n"
        )));
        assert!(!told(&format!("{ONE}{ONE}")));
        assert!(!told(&format!(
            "{ONE}\r\n-----BEGIN RSA PUBLIC KEY-----\r\n"
        )));
        assert!(!told(&format!("{ONE}-----BEGIN CERTIFICATE-----\n")));
    }
}
