//! What outlives a reload: nonces that were used, and tokens that were verified.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::jwt::TokenCache;
use super::signature::{NonceOutcome, NonceOwner, NonceStore, Ownership};
use crate::config::{Auth, SignatureAuth};
use crate::primitives::AuthName;
use crate::primitives::interned::Interned;
use crate::primitives::sections::{self, Section};

/// The used nonces of one `[auth.NAME]`, on their way to another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedNonces {
    /// The name of the `[auth.NAME]` that keeps them.
    pub auth: String,
    /// Stamps before this are refused: what came with them is not known. Wall clock in milliseconds.
    pub fence_unix_ms: u64,
    /// How long nonces are kept.
    pub lifetime: Duration,
    /// Until when they were recorded. Wall clock in milliseconds.
    pub at_unix_ms: u64,
    /// Each with the time it must still be kept.
    pub entries: Vec<(u128, Duration)>,
}

/// The used nonces of every `[auth.NAME]`: the section that another process, or the next, goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedNonces(pub Vec<UsedNonces>);

impl Section for CarriedNonces {
    const NAME: &'static str = "nonces";
    const VERSION: u16 = 1;
    const LARGEST: usize = sections::LARGEST;
}

/// The memory of this room. Made once per process and handed to every [`build`](super::build).
pub struct AuthFacts {
    /// Stamps before this are refused by stores that know nothing else.
    fence_unix_ms: AtomicU64,
    /// Kept for the life of the process: a nonce must not come back because its table was away for a reload.
    nonces: Mutex<Interned<AuthName, NonceStore>>,
    /// Signed requests have been served: a table that comes now may be one of before under another name.
    signed: AtomicBool,
    ownership: Arc<Ownership>,
    /// Kept as long as a configuration uses them, by the fingerprint of their rules and their capacity: what was verified
    /// by other rules is another memory, and neither takes the other's place.
    tokens: Mutex<HashMap<(AuthName, u128, u32), Weak<TokenCache>>>,
}

impl AuthFacts {
    /// Remembers nothing yet. Stamps older than `started_unix_ms` are refused, as the nonces that came with them are
    /// unknown; after [`take_over`](Self::take_over) those are that the other process refused.
    pub fn new(started_unix_ms: u64) -> Self {
        Self {
            fence_unix_ms: AtomicU64::new(started_unix_ms),
            nonces: Mutex::default(),
            signed: AtomicBool::new(false),
            ownership: Arc::default(),
            tokens: Mutex::default(),
        }
    }

    /// Keeps the nonces of `auths`, which are about to be in force, and of their applications: until then a store belongs
    /// to those authenticators alone that were built with it.
    pub fn register<'c>(&self, auths: impl IntoIterator<Item = &'c Auth>) {
        let mut stores = self.nonces.lock();
        for auth in auths {
            if let Auth::Signature(auth) = auth
                && let Some(store) = stores.register(&auth.name)
            {
                auth.apps.keys().for_each(|app| store.register(app));
            }
        }
    }

    /// Keeps nonces as `auths` want it from now on: those of every configuration that is in force or may be again, of
    /// which the largest skew and the largest capacity hold. Building an authenticator changes none of this.
    pub fn apply<'c>(&self, auths: impl IntoIterator<Item = &'c Auth>) {
        let mut wanted: HashMap<&AuthName, Wanted> = HashMap::new();
        let signed = auths.into_iter().filter_map(|auth| match auth {
            Auth::Signature(auth) => Some(auth),
            Auth::Jwt(_) => None,
        });
        for auth in signed {
            wanted.entry(&auth.name).or_default().add(auth);
        }
        let stores = self.nonces.lock();
        for (name, wanted) in wanted {
            self.signed.store(true, Ordering::Relaxed);
            if let Some(store) = stores.known().get(name) {
                store.publish(unix_ms());
                store.configure(wanted.skew, wanted.capacity as usize, unix_ms());
                let shares = wanted.shares.into_iter();
                shares.for_each(|(app, most)| store.allot(app, most));
            }
        }
    }

    /// Forgets what nobody holds and none of `auths` names. Nonces in use stay even so: their table may come back; and when
    /// it does after they are gone, stamps are refused that may have come with them.
    pub fn prune<'c>(&self, auths: impl IntoIterator<Item = &'c Auth>, now: u64) {
        let names: HashSet<&AuthName> = auths.into_iter().map(name_of).collect();
        let unix_ms = unix_ms();
        let mut stores = self.nonces.lock();
        let idle = stores.known().iter();
        let idle = idle.filter(|(_, store)| store.is_idle(now));
        let idle: HashSet<AuthName> = idle.map(|(name, _)| name.clone()).collect();
        stores.keep(|name, store| {
            if !idle.contains(name) || names.contains(name) {
                return true;
            }
            if let Some(fence) = store.fence_of_what_is_gone(unix_ms) {
                self.fence_unix_ms.fetch_max(fence, Ordering::Relaxed);
            }
            false
        });
        drop(stores);
        self.tokens
            .lock()
            .retain(|_, cache| cache.strong_count() > 0);
    }

    /// Every live nonce, for another process. From now on nothing is decided here: no nonce passes, unless
    /// [somebody](Self::ask) is asked about it.
    pub fn hand_over(&self, now: u64) -> Vec<UsedNonces> {
        self.ownership.hand_over();
        let at_unix_ms = unix_ms();
        let stores = self.nonces.lock();
        let of = |(name, store): (&AuthName, &Arc<NonceStore>)| UsedNonces {
            auth: name.to_string(),
            fence_unix_ms: store.fence_unix_ms(),
            lifetime: store.lifetime(),
            at_unix_ms,
            entries: store.export(now),
        };
        stores.known().iter().map(of).collect()
    }

    /// Asks `owner` about every nonce from now on.
    pub fn ask(&self, owner: Arc<dyn NonceOwner>) {
        self.ownership.ask(owner);
    }

    /// Decides here again: nobody took over.
    pub fn take_back(&self) {
        self.ownership.take_back();
    }

    /// Knows from now on what another process knew until `at_unix_ms`. What it knew nothing of refuses stamps from
    /// before.
    pub fn take_over(&self, all: &[UsedNonces], at_unix_ms: u64, now: u64) {
        self.fence_unix_ms.fetch_max(at_unix_ms, Ordering::Relaxed);
        for (_, store) in self.nonces.lock().each() {
            store.fence_off(at_unix_ms);
        }
        for used in all {
            let store = self.store_of(&AuthName::new(&used.auth));
            store.import(&used.entries, now);
            store.succeed(used.fence_unix_ms, used.lifetime, used.at_unix_ms);
        }
    }

    /// Compares the clocks, once a second, so that a wall clock that is set back lets no request be played twice. Says
    /// how far it was, and before which stamp (milliseconds since 1970) requests are refused at most.
    pub fn compare_clocks(&self, now: u64) -> Option<(Duration, u64)> {
        let stores: Vec<_> = self.nonces.lock().known().values().cloned().collect();
        let unix_ms = unix_ms();
        let set_back = stores.iter().filter_map(|store| {
            let by = store.compare_clocks(now, unix_ms)?;
            Some((by, store.fence_unix_ms()))
        });
        set_back.max_by_key(|(_, fence)| *fence)
    }

    /// Decides about a nonce of `name` for the process whose nonces were taken over.
    pub fn claim_for_other(
        &self,
        name: &AuthName,
        nonce: u128,
        lifetime: Duration,
        now: u64,
    ) -> NonceOutcome {
        self.store_of(name).claim_for_other(nonce, lifetime, now)
    }

    /// Takes over nonces alone.
    pub fn import_nonces(&self, name: &AuthName, entries: &[(u128, Duration)], now: u64) {
        self.store_of(name).import(entries, now);
    }

    /// The nonces of `name`. Those that nobody knew are kept for this skew and up to this capacity; the others as before,
    /// until [`apply`](Self::apply) says otherwise.
    ///
    /// Where signed requests have been served, a name that nobody knew may be a new one for an old table: what was signed
    /// before it is in force may have passed under the old one, and is refused.
    pub(super) fn nonces(&self, name: &AuthName, skew: Duration, capacity: u32) -> Arc<NonceStore> {
        let mut stores = self.nonces.lock();
        stores.find_or(name.clone(), |name| {
            let store = self.new_store(name);
            store.configure(skew, capacity as usize, unix_ms());
            if self.signed.load(Ordering::Relaxed) {
                store.fence_off(unix_ms());
                store.begin_unpublished();
            }
            store
        })
    }

    /// Lets every cache know some token, for tests that compare.
    #[cfg(test)]
    pub(crate) fn remember_tokens(&self) {
        use crate::filter::{NamedBy, Principal};

        for ((name, ..), cache) in self.tokens.lock().iter() {
            let principal = Principal::named(name, NamedBy::Subject, "somebody");
            if let Some(cache) = cache.upgrade() {
                cache.keep_for_test(b"token", principal);
            }
        }
    }

    /// Every store and cache, for tests that compare.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> Vec<String> {
        let nonces = self.nonces.lock();
        let mut lines: Vec<_> = nonces.known().values().map(|store| store.dump()).collect();
        // One that remembers nothing is nobody's, or as good as new.
        let tokens = self.tokens.lock();
        let used = tokens.iter().filter_map(|(key, cache)| {
            let tokens = cache.upgrade()?.len();
            (tokens > 0).then(|| format!("{key:?} {:?} {tokens}", cache.as_ptr()))
        });
        lines.extend(used);
        lines.push(format!("{:?}", self.fence_unix_ms));
        lines.sort();
        lines
    }

    fn store_of(&self, name: &AuthName) -> Arc<NonceStore> {
        let mut stores = self.nonces.lock();
        stores.register_or(name, |name| self.new_store(name))
    }

    fn new_store(&self, name: &AuthName) -> NonceStore {
        let ownership = Arc::clone(&self.ownership);
        let fence = self.fence_unix_ms.load(Ordering::Relaxed);
        NonceStore::new(name.clone(), fence, ownership)
    }

    /// The verified tokens of `name` by these rules: those of a configuration that had the same, else none.
    pub(super) fn tokens(&self, name: &AuthName, rules: u128, capacity: u32) -> Arc<TokenCache> {
        let mut caches = self.tokens.lock();
        let key = (name.clone(), rules, capacity);
        if let Some(cache) = caches.get(&key).and_then(Weak::upgrade) {
            return cache;
        }
        let cache = Arc::new(TokenCache::new(capacity as usize));
        caches.insert(key, Arc::downgrade(&cache));
        cache
    }
}

fn name_of(auth: &Auth) -> &AuthName {
    match auth {
        Auth::Jwt(auth) => &auth.name,
        Auth::Signature(auth) => &auth.name,
    }
}

/// What configurations want of the nonces of one `[auth.NAME]`: of each the most.
#[derive(Default)]
struct Wanted<'c> {
    skew: Duration,
    capacity: u32,
    /// Most nonces of each application.
    shares: HashMap<&'c str, usize>,
}

impl<'c> Wanted<'c> {
    fn add(&mut self, auth: &'c SignatureAuth) {
        self.skew = self.skew.max(auth.skew);
        self.capacity = self.capacity.max(auth.nonce_capacity);
        let part = NonceStore::part(auth.nonce_capacity as usize, auth.apps.len());
        for app in auth.apps.keys() {
            let most = self.shares.entry(app).or_default();
            *most = part.max(*most);
        }
    }
}

fn unix_ms() -> u64 {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    unix.map_or(0, |time| time.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_cache_is_kept_for_the_same_rules_only() {
        let facts = AuthFacts::new(0);
        let name = AuthName::new("app");
        let first = facts.tokens(&name, 1, 10);
        assert!(Arc::ptr_eq(&first, &facts.tokens(&name, 1, 10)));
        let second = facts.tokens(&name, 2, 10);
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(
            &second,
            &facts.tokens(&AuthName::new("other"), 2, 10)
        ));
    }

    #[test]
    fn nonces_stay_when_settings_change() {
        let facts = AuthFacts::new(0);
        let name = AuthName::new("partner");
        let skew = Duration::from_secs(300);
        let first = facts.nonces(&name, skew, 10);
        assert!(Arc::ptr_eq(&first, &facts.nonces(&name, skew * 2, 20)));
    }

    #[test]
    fn what_was_verified_by_other_rules_takes_nothing_away() {
        let facts = AuthFacts::new(0);
        let name = AuthName::new("app");
        let first = facts.tokens(&name, 1, 10);
        drop(facts.tokens(&name, 2, 10));
        drop(facts.tokens(&name, 1, 99));
        facts.prune([], 0);
        assert!(Arc::ptr_eq(&first, &facts.tokens(&name, 1, 10)));
        assert_eq!(facts.tokens.lock().len(), 1);
    }

    #[test]
    fn what_is_built_changes_nothing_and_what_is_applied_does() {
        let facts = AuthFacts::new(0);
        let name = AuthName::new("partner");
        let store = facts.nonces(&name, Duration::from_secs(300), 10);
        let share = store.share("app", 1);
        facts.nonces(&name, Duration::from_secs(1), 1);
        assert_eq!(store.lifetime(), Duration::from_secs(602));
        let of = |skew: &str, capacity: u32| {
            let text = format!(
                "[[listener]]\naddress = \"127.0.0.1:1\"\n[auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\n\
                 skew = \"{skew}\"\nnonce_capacity = {capacity}\n[auth.partner.apps.app]\nsecret = \"env:UNUSED\"\n"
            );
            let source = crate::config::Source {
                file: "t.toml".into(),
                text: text.into(),
            };
            crate::config::load(&[source], &|_| Ok(None))
                .unwrap_or_else(|problems| panic!("{problems}"))
        };
        let (wide, narrow) = (of("300s", 1000), of("1s", 2000));
        facts.register(wide.auths.values());
        facts.apply(wide.auths.values().chain(narrow.auths.values()));
        assert_eq!(store.lifetime(), Duration::from_secs(602));
        assert_eq!(store.bounds(&share), (2000, 2000));
        facts.apply(narrow.auths.values());
        assert_eq!(store.lifetime(), Duration::from_secs(4));
        facts.apply(wide.auths.values());
        assert_eq!(store.bounds(&share), (1000, 1000));
    }

    #[test]
    fn a_table_that_may_have_had_another_name_knows_nothing_from_before() {
        let facts = AuthFacts::new(5);
        let skew = Duration::from_secs(300);
        let auth = |name: &str| {
            Auth::Signature(SignatureAuth {
                name: AuthName::new(name),
                scheme: crate::config::SignatureScheme::Ca,
                skew,
                nonce_capacity: 10,
                require_body_digest: true,
                strict_params: false,
                apps: std::collections::BTreeMap::new(),
            })
        };
        let made = |name| facts.nonces(&AuthName::new(name), skew, 10);
        let in_force = |auths: &[&Auth]| {
            facts.register(auths.iter().copied());
            facts.apply(auths.iter().copied());
        };
        let (one, two) = (auth("one"), auth("two"));
        // Whatever comes before signed requests are served is as old as the process.
        in_force(&[]);
        let first = made("one");
        assert_eq!(made("beside").fence_unix_ms(), 5);
        in_force(&[&one]);
        let before = unix_ms();
        let second = made("two");
        assert!(second.fence_unix_ms() >= before);
        std::thread::sleep(Duration::from_millis(5));
        let published = unix_ms();
        in_force(&[&one, &two]);
        let fence = second.fence_unix_ms();
        assert!(fence >= published, "until then the old name was served");
        std::thread::sleep(Duration::from_millis(5));
        in_force(&[&two]);
        assert!(Arc::ptr_eq(&second, &made("two")));
        assert_eq!(second.fence_unix_ms(), fence);
        assert_eq!(first.fence_unix_ms(), 5);
    }

    #[test]
    fn nonces_in_use_stay_when_their_table_goes() {
        let facts = AuthFacts::new(0);
        let (used, unused) = (AuthName::new("used"), AuthName::new("unused"));
        let skew = Duration::from_secs(300);
        let store = facts.store_of(&used);
        store.configure(skew, 10, 0);
        assert!(store.claim(&store.share("app", 1), "n", 5).is_fresh());
        drop(facts.store_of(&unused));
        drop(store);
        facts.prune([], 6);
        let names: Vec<AuthName> = facts.nonces.lock().known().keys().cloned().collect();
        assert_eq!(names, std::slice::from_ref(&used));
        let store = facts.nonces(&used, skew, 10);
        assert!(!store.claim(&store.share("app", 1), "n", 6).is_fresh());
        drop(store);
        facts.prune([], u64::MAX / 2);
        assert!(facts.nonces.lock().known().is_empty());
        // Who used a nonce of it signed before this.
        let before = unix_ms() - 300_000;
        let back = facts.nonces(&used, skew, 10);
        assert!(back.fence_unix_ms().abs_diff(before) < 60_000);
    }

    #[test]
    fn nonces_travel_to_the_next_process() {
        let (old, new) = (AuthFacts::new(0), AuthFacts::new(0));
        let name = AuthName::new("partner");
        let store = old.store_of(&name);
        store.configure(Duration::from_secs(300), 10, 0);
        let share = store.share("app", 1);
        assert!(store.claim(&share, "n", 5).is_fresh());
        let unknown = AuthName::new("unknown");
        let unknown = new.nonces(&unknown, Duration::from_secs(300), 10);
        new.take_over(&old.hand_over(10), 7_000, 1_000);
        assert_eq!(unknown.fence_unix_ms(), 7_000);
        let store = new.nonces(&name, Duration::from_secs(300), 10);
        assert!(!store.claim(&store.share("app", 1), "n", 2_000).is_fresh());
        assert!(store.claim(&store.share("app", 1), "m", 2_000).is_fresh());
    }
}
