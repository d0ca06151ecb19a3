//! Which servers there are to compare, and what each is started with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::plan::{Discipline, Workload};
use crate::cores::CoreList;

/// The server that says what the kernel alone costs: a bare loop of `send`.
pub(super) const FLOOR: &str = "floor";

/// The peers that a full checkout builds. Further executables beside them take part as well.
const PEERS: [&str; 9] = [
    FLOOR,
    "tokio-tungstenite",
    "axum",
    "fastwebsockets",
    "gorilla",
    "ws",
    "websockets",
    "cowboy",
    "uwebsockets",
];

/// What a server speaks in rooms; in an echo there is nothing to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Shardcast,
    Plain,
}

/// A server that can be compared.
#[derive(Clone, Debug)]
pub(super) struct Contestant {
    pub(super) name: String,
    /// Whose it is: a baseline in an echo is the server of the same family that echoes.
    pub(super) family: String,
    pub(super) executable: PathBuf,
    /// Its arguments, but for `--listen`.
    pub(super) arguments: Vec<String>,
    /// One line; absent where it is not known.
    pub(super) version: Option<String>,
    protocol: Protocol,
    /// What it can take part in; both where nothing is said.
    only: Option<Discipline>,
    /// The command that builds it.
    build: String,
}

/// Where executables are, and what the servers may use.
#[derive(Clone, Debug)]
pub(super) struct Places<'a> {
    /// Holds `shardcast` and `examples/echo`.
    pub(super) executables: &'a Path,
    /// Holds an executable for each peer, and a `NAME.version` beside it.
    pub(super) peers: &'a Path,
    pub(super) server_cores: &'a CoreList,
}

/// The servers that take part, and for each that does not why, with the command that builds it.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    pub(super) contestants: Vec<Contestant>,
    pub(super) missing: Vec<String>,
}

/// The servers that were asked for by name or family; all where none was.
pub(super) fn select(places: &Places<'_>, asked: &[String]) -> Selection {
    let known = catalogue(places);
    let is_asked = |contestant: &Contestant| {
        let named = |name: &String| *name == contestant.name || *name == contestant.family;
        asked.is_empty() || asked.iter().any(named)
    };
    let mut selection = Selection::default();
    for name in asked {
        if !known
            .iter()
            .any(|one| one.name == *name || one.family == *name)
        {
            selection.missing.push(format!(
                "{name} is left out: there is no executable {}; bench/peers/build.sh {name} may build it",
                places.peers.join(name).display()
            ));
        }
    }
    for contestant in known.into_iter().filter(is_asked) {
        if is_executable(&contestant.executable) {
            selection.contestants.push(contestant);
        } else {
            selection.missing.push(format!(
                "{} is left out: {} is missing; {} builds it",
                contestant.name,
                contestant.executable.display(),
                contestant.build
            ));
        }
    }
    selection
}

impl Contestant {
    /// Whether it takes part in a workload.
    pub(super) fn takes_part(&self, workload: &Workload) -> bool {
        self.only.is_none_or(|only| only == workload.discipline)
            && (self.name != FLOOR || workload.has_floor)
    }

    /// The protocol that the generator speaks to it.
    pub(super) fn protocol(&self, discipline: Discipline) -> &'static str {
        match (discipline, self.protocol) {
            (Discipline::Echo, _) => "echo",
            (Discipline::Rooms, Protocol::Shardcast) => "shardcast",
            (Discipline::Rooms, Protocol::Plain) => "plain",
        }
    }
}

fn catalogue(places: &Places<'_>) -> Vec<Contestant> {
    let own = own(places);
    let further = executables(places.peers)
        .into_iter()
        .filter(|name| !PEERS.contains(&&**name))
        .filter(|name| own.iter().all(|contestant| contestant.name != *name));
    let peers: Vec<String> = PEERS
        .into_iter()
        .map(str::to_owned)
        .chain(further)
        .collect();
    own.iter()
        .cloned()
        .chain(peers.into_iter().map(|name| peer(places, name)))
        .collect()
}

/// Shardcast itself: the binary for rooms, and its example for the echo.
fn own(places: &Places<'_>) -> [Contestant; 2] {
    let version = Some(format!("shardcast {}", env!("CARGO_PKG_VERSION")));
    let shards = [
        "--shards".to_owned(),
        places.server_cores.count().to_string(),
    ];
    let mut arguments: Vec<String> = vec!["serve".to_owned()];
    arguments.extend(shards.clone());
    arguments.extend(["--cores".to_owned(), places.server_cores.to_string()]);
    // A generator sends on one connection what many people would.
    arguments.extend(["--messages-per-second-max".to_owned(), "0".to_owned()]);
    // Nobody asks it anything, and its port may be another server's.
    arguments.extend(["--admin".to_owned(), "off".to_owned()]);
    let rooms = Contestant {
        name: "shardcast".to_owned(),
        family: "shardcast".to_owned(),
        executable: places.executables.join("shardcast"),
        arguments,
        version,
        protocol: Protocol::Shardcast,
        only: Some(Discipline::Rooms),
        build: "cargo build --release -p shardcast".to_owned(),
    };
    let echo = Contestant {
        name: "shardcast-echo".to_owned(),
        executable: places.executables.join("examples/echo"),
        arguments: shards.into(),
        only: Some(Discipline::Echo),
        build: "cargo build --release -p shardcast --example echo".to_owned(),
        ..rooms.clone()
    };
    [rooms, echo]
}

fn peer(places: &Places<'_>, name: String) -> Contestant {
    let version = fs::read_to_string(places.peers.join(format!("{name}.version"))).ok();
    Contestant {
        family: name.clone(),
        executable: places.peers.join(&name),
        arguments: Vec::new(),
        version: version
            .map(|text| text.trim().replace('\n', "; "))
            .filter(|text| !text.is_empty()),
        protocol: Protocol::Plain,
        only: None,
        build: format!("bench/peers/build.sh {name}"),
        name,
    }
}

/// The names of the executables in a directory, in order; none where it cannot be read.
fn executables(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| is_executable(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::plan::workloads;
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_command_that_builds_it() {
        let cores: CoreList = "0".parse().unwrap();
        let nowhere = Path::new("/nonexistent");
        let places = Places {
            executables: nowhere,
            peers: nowhere,
            server_cores: &cores,
        };
        let all = select(&places, &[]);
        assert!(all.contestants.is_empty());
        assert_eq!(all.missing.len(), PEERS.len() + 2);
        assert!(
            all.missing
                .iter()
                .any(|line| line.contains("bench/peers/build.sh gorilla"))
        );

        let some = select(&places, &["shardcast".to_owned(), "absent".to_owned()]);
        assert_eq!(some.missing.len(), 3, "{:?}", some.missing);
    }

    #[test]
    fn each_takes_part_in_what_it_speaks() {
        let cores: CoreList = "0-1".parse().unwrap();
        let nowhere = Path::new("/nonexistent");
        let places = Places {
            executables: nowhere,
            peers: nowhere,
            server_cores: &cores,
        };
        let [rooms, echo] = own(&places);
        let floor = peer(&places, FLOOR.to_owned());
        let workloads = workloads(true, None);
        let in_all = |contestant: &Contestant| -> Vec<&str> {
            let taken = workloads.iter().filter(|one| contestant.takes_part(one));
            taken.map(|workload| workload.name).collect()
        };
        assert_eq!(
            in_all(&rooms),
            ["rooms-1000", "rooms-100", "mixed", "memory", "capacity"]
        );
        assert_eq!(in_all(&echo), ["echo"]);
        assert_eq!(
            in_all(&floor),
            ["rooms-1000", "rooms-100", "echo", "mixed", "capacity"]
        );
        assert_eq!(echo.protocol(Discipline::Echo), "echo");
        assert_eq!(rooms.protocol(Discipline::Rooms), "shardcast");
        assert_eq!(floor.protocol(Discipline::Rooms), "plain");
        assert!(rooms.arguments.join(" ").contains("--shards 2 --cores 0-1"));
    }
}
