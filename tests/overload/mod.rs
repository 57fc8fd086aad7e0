//! More comes in than can be served: who waits, who is refused, and that nothing is lost on the way.

mod door;
mod leaving;
mod places;
mod refusals;
mod signs;

use crate::harness::{Answer, Gateway, Origin, Setup, millis};

/// An origin that answers `/slow` after a while, `/never` not at all, and echoes the rest.
fn slow() -> Origin {
    Origin::answering(|seen| match seen.target.rsplit('/').next() {
        Some("slow") => Answer::text("done").after(millis(600)),
        Some("never") => Answer::silence(),
        Some("reset") => Answer::reset(),
        Some("socket") => Answer::switch_and_echo(""),
        _ => Answer::echo(),
    })
}

/// One upstream, and a route of each class before it, named and pathed like the class.
fn classes(upstream: &str, server: &str) -> Setup {
    let routes: String = ["critical", "normal", "sheddable"]
        .map(|class| {
            format!(
                "[[route]]\nid = \"{class}\"\npath = \"/{class}/**\"\nupstream = \"api\"\nclass = \"{class}\"\n"
            )
        })
        .concat();
    Gateway::with(&format!(
        "[upstream.api]\nendpoints = [{{ address = \"{{origin}}\" }}]\n{upstream}\n[upstream.api.retry]\nattempts = 0\n\
         {routes}\n[[route]]\nid = \"own\"\npath = \"/own\"\nclass = \"sheddable\"\nrespond = {{ text = \"here\" }}\n{server}\n"
    ))
}
