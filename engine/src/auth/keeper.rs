//! Gets the keys: from files at the start and when the operator asks, from a URL every now and then. Runs on the control thread, and never keeps it waiting:
//! a set is fetched on a thread of its own, one at a time.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::jwk::{self, SET_SIZE_MAX, Secrets};
use super::key::{Key, KeyError, read_file};
use super::keyring::{Keyring, Keys};
use crate::config::{AccessConfig, Config, is_url};

/// Time for a whole set to arrive. So long the start waits, where the set comes from a URL.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);

/// Redirects that are followed to a set.
const REDIRECTS_MAX: u32 = 3;

/// The pause after a fetch that failed; it doubles with each further one.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The longest such pause.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);

/// A setting, the file that it names, and what is wrong with that.
pub(super) type BadFile = (&'static str, PathBuf, KeyError);

/// Keeps the keys that shards check tokens with.
pub struct KeyKeeper {
    keys: Arc<Keys>,
    key_file: Option<PathBuf>,
    set: Option<SetSource>,
    keys_max: u64,
    /// From the file of one key.
    own: Vec<Arc<Key>>,
    /// From the set.
    of_set: Vec<Arc<Key>>,
}

enum SetSource {
    File(PathBuf),
    Url(Remote),
}

/// A set that is fetched.
struct Remote {
    url: String,
    refresh: Duration,
    refresh_min: Duration,
    /// A fetch that is under way.
    fetching: Option<Receiver<Result<Fetched, String>>>,
    /// When the last one began.
    begun: Option<Instant>,
    /// When the next one should.
    due: Instant,
    /// Fetches that have failed since one went well.
    failures: u32,
    /// The text of the set that is in force.
    text: Vec<u8>,
}

/// The answer of a server of keys.
struct Fetched {
    text: Vec<u8>,
    /// How long it may be kept (RFC 9111 §5.2.2.1).
    max_age: Option<Duration>,
}

impl KeyKeeper {
    /// Reads the files that are configured. A URL is fetched from, and tried again later where that fails.
    ///
    /// # Errors
    /// A file that holds no key.
    pub(super) fn start(config: &Config) -> Result<Self, BadFile> {
        let access = &config.access;
        let mut keeper = Self {
            keys: Arc::default(),
            key_file: access.key_file.clone(),
            set: access
                .key_set
                .as_ref()
                .map(|set| SetSource::new(set, access)),
            keys_max: config.limits.auth_keys_max,
            own: Vec::new(),
            of_set: Vec::new(),
        };
        keeper.read_files()?;
        keeper.publish();
        let now = Instant::now();
        if let Some(SetSource::Url(remote)) = &mut keeper.set {
            remote.begin(now);
            if let Some(fetched) = remote.wait() {
                keeper.take(fetched, now);
            }
        }
        Ok(keeper)
    }

    /// Where the shards find the keys.
    pub(super) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys)
    }

    /// Reads the files again, and asks for the set again where it comes from a URL. Where that fails the keys stay as they are, and the log says why.
    pub fn reload(&mut self) {
        match self.read_files() {
            Ok(()) => self.publish(),
            Err((name, path, error)) => {
                tracing::error!(
                    "{name}: the file {} {error}; the keys stay as they were",
                    path.display()
                );
            }
        }
        if let Some(SetSource::Url(remote)) = &mut self.set {
            remote.due = Instant::now();
            // Whatever comes then is new, and the log says so.
            remote.text.clear();
        }
    }

    /// Does what is due, without waiting. To be called a few times a second.
    pub fn poll(&mut self) {
        let now = Instant::now();
        let missed = self.keys.take_missed();
        let Some(SetSource::Url(remote)) = &mut self.set else {
            return;
        };
        if let Some(fetched) = remote.finished() {
            self.take(fetched, now);
        } else if remote.is_due(now, missed) {
            remote.begin(now);
        } else if missed {
            // Asked again when it may be.
            self.keys.note_missed();
        }
    }

    fn read_files(&mut self) -> Result<(), BadFile> {
        let own = match &self.key_file {
            None => Vec::new(),
            Some(path) => {
                let key = Key::from_file(path);
                vec![Arc::new(
                    key.map_err(|error| ("auth_key", path.clone(), error))?,
                )]
            }
        };
        if let Some(SetSource::File(path)) = &self.set {
            let set = read_file(path, SET_SIZE_MAX)
                .and_then(|text| read_set(&text, Secrets::Permitted, self.keys_max));
            self.of_set = set.map_err(|error| ("auth_jwks", path.clone(), error))?;
        }
        self.own = own;
        Ok(())
    }

    /// Takes what a fetch has brought.
    fn take(&mut self, fetched: Result<Fetched, String>, now: Instant) {
        let Some(SetSource::Url(remote)) = &mut self.set else {
            return;
        };
        let taken = fetched.and_then(|fetched| {
            let keys = match fetched.text == remote.text {
                true => None,
                false => {
                    let set = read_set(&fetched.text, Secrets::Refused, self.keys_max);
                    Some(set.map_err(|error| format!("what came {error}"))?)
                }
            };
            Ok((keys, fetched))
        });
        match taken {
            Ok((keys, fetched)) => {
                remote.succeeded(now, fetched);
                if let Some(keys) = keys {
                    self.of_set = keys;
                    self.publish();
                }
            }
            Err(error) => {
                let pause = remote.failed(now);
                let have = self.of_set.len();
                tracing::warn!(url = remote.url, %error, keys = have, "the keys for tokens could not be fetched; those there are stay, the next try is in {pause:?}");
            }
        }
    }

    fn publish(&self) {
        let keys: Vec<Arc<Key>> = self.own.iter().chain(&self.of_set).cloned().collect();
        let awaited = self.set.is_some() && self.of_set.is_empty();
        if !keys.is_empty() {
            tracing::info!(
                keys = keys.len(),
                "tokens are checked with the keys as they are now"
            );
        }
        self.keys.replace(Keyring { keys, awaited });
    }
}

fn read_set(text: &[u8], secrets: Secrets, keys_max: u64) -> Result<Vec<Arc<Key>>, KeyError> {
    let set = jwk::parse(text, secrets, keys_max)?;
    for (place, why) in &set.left_out {
        tracing::warn!("key {place} of the JWK set is left out: {why}");
    }
    Ok(set.keys.into_iter().map(Arc::new).collect())
}

impl SetSource {
    fn new(set: &str, access: &AccessConfig) -> Self {
        if !is_url(set) {
            return Self::File(PathBuf::from(set));
        }
        Self::Url(Remote {
            url: set.to_owned(),
            refresh: access.refresh,
            refresh_min: access.refresh_min,
            fetching: None,
            begun: None,
            due: Instant::now(),
            failures: 0,
            text: Vec::new(),
        })
    }
}

impl Remote {
    /// Whether it is time to fetch: because it is due, or because a token names a key that is not there (`missed`).
    fn is_due(&self, now: Instant, missed: bool) -> bool {
        let may = self
            .begun
            .is_none_or(|begun| now.duration_since(begun) >= self.refresh_min);
        let must = now >= self.due;
        if self.fetching.is_some() {
            return false;
        }
        // After a failure the pause counts, which may be shorter than the least time between two.
        match self.failures {
            0 => may && (must || missed),
            _ => must,
        }
    }

    fn begin(&mut self, now: Instant) {
        self.begun = Some(now);
        let (sender, receiver) = sync_channel(1);
        let url = self.url.clone();
        let fetch_it = move || {
            // Nobody waits any more when the server stops.
            let _: Result<(), _> = sender.send(fetch(&url));
        };
        let begun = thread::Builder::new()
            .name("keys".to_owned())
            .spawn(fetch_it);
        // A thread that could not be started has let go of its sender: the fetch has failed.
        if let Err(error) = begun {
            tracing::warn!(%error, "a thread that fetches keys could not be started");
        }
        self.fetching = Some(receiver);
    }

    fn finished(&mut self) -> Option<Result<Fetched, String>> {
        let outcome = match self.fetching.as_ref()?.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err("the thread that fetches ended".to_owned()),
            Ok(outcome) => outcome,
        };
        self.fetching = None;
        Some(outcome)
    }

    fn wait(&mut self) -> Option<Result<Fetched, String>> {
        // A little longer than the fetch itself waits, so that it can say what it waited for.
        let patience = FETCH_TIME_MAX + FETCH_TIME_MAX / 4;
        let outcome = self.fetching.as_ref()?.recv_timeout(patience).ok()?;
        self.fetching = None;
        Some(outcome)
    }

    fn succeeded(&mut self, now: Instant, fetched: Fetched) {
        self.failures = 0;
        self.text = fetched.text;
        let pause = fetched.max_age.map_or(self.refresh, |age| {
            age.clamp(self.refresh_min, self.refresh)
        });
        self.due = now + pause;
    }

    fn failed(&mut self, now: Instant) -> Duration {
        let doubled = RETRY_PAUSE * (1 << self.failures.min(6));
        let pause = doubled.min(RETRY_PAUSE_MAX).min(self.refresh);
        self.failures += 1;
        self.due = now + pause;
        pause
    }
}

/// Fetches a set. From an `https` address nobody is redirected to one without TLS.
fn fetch(url: &str) -> Result<Fetched, String> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(FETCH_TIME_MAX))
        .max_redirects(REDIRECTS_MAX)
        .https_only(url.starts_with("https:"))
        .user_agent(concat!("shardcast/", env!("CARGO_PKG_VERSION")))
        .build();
    let mut response = ureq::Agent::new_with_config(config)
        .get(url)
        .header("Accept", "application/jwk-set+json, application/json")
        .call()
        .map_err(|error| error.to_string())?;
    let max_age = response
        .headers()
        .get("cache-control")
        .and_then(|value| max_age(value.to_str().ok()?));
    let text = response
        .body_mut()
        .with_config()
        .limit(SET_SIZE_MAX)
        .read_to_vec()
        .map_err(|error| io::Error::other(error).to_string())?;
    Ok(Fetched { text, max_age })
}

/// How long an answer may be kept; no time at all where it is not to be stored.
fn max_age(cache_control: &str) -> Option<Duration> {
    let mut directives = cache_control.split(',').map(str::trim);
    directives.find_map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("max-age") {
            return value
                .trim_matches('"')
                .parse()
                .ok()
                .map(Duration::from_secs);
        }
        let not_kept = ["no-store", "no-cache"].iter();
        not_kept
            .clone()
            .any(|known| name.eq_ignore_ascii_case(known))
            .then_some(Duration::ZERO)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_an_answer_may_be_kept() {
        let cases = [
            ("max-age=60", Some(60)),
            ("public, Max-Age=\"7\", must-revalidate", Some(7)),
            ("no-store", Some(0)),
            ("public", None),
            ("max-age=soon", None),
            ("s-maxage=5", None),
            ("", None),
        ];
        for (value, seconds) in cases {
            assert_eq!(max_age(value), seconds.map(Duration::from_secs), "{value}");
        }
    }

    fn remote(refresh_ms: u64, refresh_ms_min: u64) -> Remote {
        let access = AccessConfig {
            refresh: Duration::from_millis(refresh_ms),
            refresh_min: Duration::from_millis(refresh_ms_min),
            ..AccessConfig::default()
        };
        match SetSource::new("http://127.0.0.1/", &access) {
            SetSource::Url(remote) => remote,
            SetSource::File(path) => unreachable!("{path:?} is a URL"),
        }
    }

    #[test]
    fn a_set_is_fetched_when_it_is_due_and_earlier_for_an_unknown_key_but_not_too_often() {
        let mut remote = remote(10_000, 1_000);
        let start = remote.due;
        let at = |ms| start + Duration::from_millis(ms);
        assert!(remote.is_due(start, false));
        remote.begun = Some(start);
        let fetched = |max_age: Option<u64>| Fetched {
            text: Vec::new(),
            max_age: max_age.map(Duration::from_secs),
        };
        remote.succeeded(start, fetched(None));
        for (ms, missed, expected) in [
            (999, true, false),
            (1_000, true, true),
            (1_000, false, false),
            (9_999, false, false),
            (10_000, false, true),
        ] {
            assert_eq!(remote.is_due(at(ms), missed), expected, "{ms} {missed}");
        }
        for (age, due_ms) in [(0, 1_000), (4, 4_000), (100, 10_000)] {
            remote.succeeded(start, fetched(Some(age)));
            assert_eq!(remote.due, at(due_ms), "max-age={age}");
        }
    }

    #[test]
    fn the_pauses_between_failures_double_up_to_a_bound() {
        let mut remote = remote(40_000, 1_000);
        let start = remote.due;
        let pauses: Vec<u64> = (0..8).map(|_| remote.failed(start).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 40, 40]);
        assert!(!remote.is_due(start + Duration::from_secs(39), true));
        assert!(remote.is_due(start + Duration::from_secs(40), false));
    }
}
