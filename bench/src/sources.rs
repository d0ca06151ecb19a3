//! The addresses that connections come from: a TCP port is free once for each pair of addresses, so a million connections to
//! one address and port need many source addresses.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// Connections from one source address unless the user lists addresses: well below the 28,232 ports of Linux' default range, as
/// the kernel's search for a free port slows down when few are left.
pub const CONNECTIONS_PER_SOURCE: u32 = 10_000;

/// Where connections come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sources {
    /// What the kernel's routing picks.
    Any,
    /// 127.1.0.1 and upwards: for servers on this machine.
    Loopback,
    /// These in turn.
    Listed(Vec<IpAddr>),
}

/// The text does not name addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a list of source addresses: write addresses or ranges of IPv4 addresses, separated by commas, \
     such as 10.0.0.5,10.0.0.10-10.0.0.40"
)]
pub struct SourcesError(String);

impl FromStr for Sources {
    type Err = SourcesError;

    fn from_str(text: &str) -> Result<Self, SourcesError> {
        let mut addresses = Vec::new();
        for part in text.split(',') {
            let wrong = || SourcesError(part.to_owned());
            match part.split_once('-') {
                None => addresses.push(part.trim().parse().map_err(|_| wrong())?),
                Some((first, last)) => {
                    let first: Ipv4Addr = first.trim().parse().map_err(|_| wrong())?;
                    let last: Ipv4Addr = last.trim().parse().map_err(|_| wrong())?;
                    if first > last || last.to_bits() - first.to_bits() >= 1 << 16 {
                        return Err(wrong());
                    }
                    let range = first.to_bits()..=last.to_bits();
                    addresses.extend(range.map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))));
                }
            }
        }
        Ok(Self::Listed(addresses))
    }
}

impl Sources {
    /// What suits a server at `target` when the user names nothing.
    #[must_use]
    pub const fn suiting(target: IpAddr) -> Self {
        match target {
            IpAddr::V4(address) if address.is_loopback() => Self::Loopback,
            IpAddr::V4(_) | IpAddr::V6(_) => Self::Any,
        }
    }

    /// The source of connection number `index`; `None` leaves it to the kernel.
    #[must_use]
    pub fn of(&self, index: u32) -> Option<IpAddr> {
        match self {
            Self::Any => None,
            Self::Loopback => {
                let number = index / CONNECTIONS_PER_SOURCE + 1;
                let bits = Ipv4Addr::new(127, 1, 0, 0).to_bits() + (number & 0xffff);
                Some(IpAddr::V4(Ipv4Addr::from_bits(bits)))
            }
            Self::Listed(addresses) => addresses
                .get(index as usize % addresses.len().max(1))
                .copied(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read() {
        let sources: Sources = "10.0.0.5,10.0.0.254-10.0.1.1".parse().unwrap();
        let texts: Vec<String> = (0..6)
            .map(|index| sources.of(index).unwrap().to_string())
            .collect();
        assert_eq!(
            texts,
            [
                "10.0.0.5",
                "10.0.0.254",
                "10.0.0.255",
                "10.0.1.0",
                "10.0.1.1",
                "10.0.0.5"
            ]
        );
        assert_eq!(
            "::1".parse::<Sources>().unwrap().of(3),
            Some("::1".parse().unwrap())
        );
    }

    #[test]
    fn what_is_no_list_says_what_one_looks_like() {
        for text in [
            "",
            "here",
            "10.0.0.9-10.0.0.1",
            "10.0.0.0-11.0.0.0",
            "::1-::2",
        ] {
            let error = text.parse::<Sources>().unwrap_err().to_string();
            assert!(error.contains("10.0.0.10-10.0.0.40"), "{error}");
        }
    }

    #[test]
    fn loopback_changes_the_address_in_time() {
        let sources = Sources::suiting("127.0.0.1".parse().unwrap());
        assert_eq!(sources.of(0), Some("127.1.0.1".parse().unwrap()));
        assert_eq!(sources.of(9999), sources.of(0));
        assert_eq!(sources.of(10_000), Some("127.1.0.2".parse().unwrap()));
        assert_eq!(sources.of(3_000_000), Some("127.1.1.45".parse().unwrap()));
        assert_eq!(Sources::suiting("10.1.2.3".parse().unwrap()).of(0), None);
    }
}
