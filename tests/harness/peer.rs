//! The other side of tokens and signatures, in another language and with other libraries: `fixtures/peer.py`. It is
//! started once and asked one JSON line at a time.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

static PEER: LazyLock<Mutex<Peer>> = LazyLock::new(|| Mutex::new(Peer::start()));

/// The running script.
pub(crate) struct Peer {
    _child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Peer {
    fn start() -> Self {
        let python =
            std::env::var("TOLLGATE_TEST_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".to_owned());
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/peer.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 with jwt and cryptography is installed (python3-jwt, python3-cryptography)");
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        Self {
            _child: child,
            to,
            from,
        }
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.to, "{question}").unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the peer said {line:?} to {question}"))
    }

    /// Asks the one peer of this process.
    #[track_caller]
    fn answer(question: &Value) -> Value {
        let answer = PEER
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .ask(question);
        assert!(answer["error"].is_null(), "{question}: {answer}");
        answer
    }

    /// A token by PyJWT.
    pub(crate) fn token(alg: &str, key: &str, claims: &Value) -> String {
        Self::token_with(alg, key, claims, &json!({}))
    }

    /// The same with more header fields.
    pub(crate) fn token_with(alg: &str, key: &str, claims: &Value, headers: &Value) -> String {
        let question =
            json!({ "op": "token", "alg": alg, "key": key, "claims": claims, "headers": headers });
        Self::answer(&question)["token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A token of these very texts, signed with HMAC-SHA256 over `key`, which no library would agree to make.
    pub(crate) fn forged(header: &str, payload: &str, key: &str) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(payload));
        let question = json!({ "op": "hmac", "key": key, "text": signed });
        format!(
            "{signed}.{}",
            Self::answer(&question)["base64url"].as_str().unwrap()
        )
    }

    /// The claims of a token that PyJWT accepts.
    #[track_caller]
    pub(crate) fn verified(alg: &str, key: &str, token: &str) -> Value {
        Self::answer(&json!({ "op": "verify", "alg": alg, "key": key, "token": token }))["claims"]
            .clone()
    }

    /// A certificate authority with a server and a client certificate, as PEM: `ca`, `server`, `server_key`, `client`,
    /// `client_key`.
    /// The same, the server's valid for so many days; negative: it is over.
    pub(crate) fn certificates_for(server_name: &str, days: i32) -> Value {
        Self::answer(&json!({ "op": "certificates", "name": server_name, "days": days }))
    }

    pub(crate) fn certificates(server_name: &str) -> Value {
        Self::answer(&json!({ "op": "certificates", "name": server_name }))
    }
}

/// A key pair, PEM both.
pub(crate) struct Keys {
    pub(crate) private: String,
    pub(crate) public: String,
    /// The public half as a JSON Web Key.
    pub(crate) jwk: Value,
}

impl Keys {
    /// `rsa`, `ec` or `ed25519`.
    pub(crate) fn new(kind: &str) -> Self {
        let answer = Peer::answer(&json!({ "op": "keys", "kind": kind }));
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Self {
            private: text("private"),
            public: text("public"),
            jwk: answer["jwk"].clone(),
        }
    }
}

/// A request to be signed, and the knobs a client may turn.
pub(crate) struct Signed {
    question: Value,
}

impl Signed {
    pub(crate) fn ca(key: &str, secret: &str, method: &str, target: &str) -> Self {
        Self {
            question: json!({ "op": "ca", "key": key, "secret": secret, "method": method, "target": target }),
        }
    }

    pub(crate) fn rfc9421(
        key: &str,
        secret: &str,
        method: &str,
        authority: &str,
        target: &str,
    ) -> Self {
        let question = json!({
            "op": "rfc9421", "key": key, "secret": secret, "method": method, "authority": authority, "target": target,
        });
        Self { question }
    }

    /// Any field of the question; `fixtures/peer.py` says which there are.
    pub(crate) fn but(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.question[field] = value.into();
        self
    }

    pub(crate) fn body(self, body: &str) -> Self {
        self.but("body", body)
    }

    /// The headers that carry the signature, and those it covers.
    #[track_caller]
    pub(crate) fn headers(self) -> Vec<(String, String)> {
        serde_json::from_value(Peer::answer(&self.question)["headers"].clone()).unwrap()
    }
}

pub(crate) fn base64url(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}
