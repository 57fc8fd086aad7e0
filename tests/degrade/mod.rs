//! What a route does in bad times: its fallback, and how much of its work it does.

mod elsewhere;
mod fallback;
mod last_good;
mod level;
mod off;
mod shed;

use crate::harness::{Client, Faces, Gateway, LATE, Origin, Request, Setup, Way, ways};

/// A request that takes a way: its route is below the way's name.
fn get<'c>(client: &'c Client, way: Way, target: &str) -> Request<'c> {
    client.get(&format!("/{way}{target}"))
}

/// What there is to a fallback, over every way.
#[derive(Clone, Copy, Default)]
struct Falls<'f> {
    /// Behind the upstream `api-WAY`; nobody when there is none.
    api: Option<&'f Origin>,
    /// Behind the upstream `spare-WAY`.
    spare: Option<&'f Origin>,
    /// More keys of `api-WAY`.
    upstream: &'f str,
    /// Lines of `[route.fallback]`, in which `{spare}` is the spare upstream of another way.
    fallback: &'f str,
}

impl Falls<'_> {
    /// Each way has a route of its name, which asks `api-WAY` what follows the name.
    fn setup(self) -> Setup {
        let faces = |origin: Option<&Origin>| origin.map(|origin| Faces::of(origin.address()));
        let (api, spare) = (faces(self.api), faces(self.spare));
        let over = |faces: &Option<Faces>, way: Way| match faces {
            Some(faces) => faces.over(way),
            None => way.nowhere(),
        };
        let keys =
            "retry = { attempts = 0 }\ntimeout = { read = \"1s\" }\npassive = { max_fails = 0 }\n";
        let (all, mut text) = (ways(), String::new());
        for (at, way) in all.iter().enumerate() {
            let other = all[(at + 3) % all.len()];
            let fallback = self.fallback.replace("{spare}", &format!("spare-{other}"));
            let more = format!("{keys}{}", self.upstream);
            text += &way.upstream(&format!("api-{way}"), &[over(&api, *way)], LATE, &more);
            text += &way.upstream(&format!("spare-{way}"), &[over(&spare, *way)], LATE, keys);
            text += &format!(
                "[[route]]\nid = \"{way}\"\npath = \"/{way}/**\"\nstrip_prefix = 1\nupstream = \"api-{way}\"\n\
                 timeout = \"2s\"\n[route.fallback]\n{fallback}\n"
            );
        }
        Gateway::with(&text)
            .file("face.pem", Faces::ca())
            .keeps((api, spare))
    }

    fn start(self) -> Gateway {
        self.setup().start()
    }
}
