//! The settings that say who may connect.

use std::time::Duration;

use super::{NotPermitted, Number, Path, Setting, Text, milliseconds};
use crate::config::access::{Anonymous, is_url};

/// Who may connect, and which tokens count.
pub(super) fn access_settings() -> Vec<Setting> {
    let mut settings = vec![
        Text {
            name: "anonymous",
            help: "Whether connections without a token are let in, with every right; under any name they like, or, where keys are configured, under one that the server makes up: `on`, `off`, or `auto`, which is `on` where the server listens on a \
                   loopback address and no key is configured.",
            placeholder: "MODE",
            default: "auto",
            permitted: "`auto`, `on` or `off`",
            read: |config| {
                match config.access.anonymous {
                    Anonymous::Auto => "auto",
                    Anonymous::On => "on",
                    Anonymous::Off => "off",
                }
                .to_owned()
            },
            write: |config, text| {
                config.access.anonymous = match text {
                    "auto" => Anonymous::Auto,
                    "on" => Anonymous::On,
                    "off" => Anonymous::Off,
                    _ => return Err(NotPermitted),
                };
                Ok(())
            },
        }
        .into(),
    ];
    settings.extend(key_settings());
    settings.extend(claim_settings());
    settings
}

fn key_settings() -> Vec<Setting> {
    vec![
        Path {
            name: "auth_key",
            help: "File with the key that tokens are checked with: a public key in PEM (RSA for RS256, EC P-256 for ES256, Ed25519 for EdDSA), or a secret of 32 bytes or more \
                   for HS256, in base64 if it begins with `base64:`.",
            read: |config| config.access.key_file.as_ref(),
            write: |config, path| config.access.key_file = path,
        }
        .into(),
        Text {
            name: "auth_jwks",
            help: "JWK set (RFC 7517) with the keys that tokens are checked with: a file, read at the start and after SIGHUP, or a URL, fetched by the server.",
            placeholder: "FILE-OR-URL",
            default: "empty",
            permitted: "the path of a file, or a URL with http:// or https:// and without a user's name or password",
            read: |config| config.access.key_set.clone().unwrap_or_default(),
            write: |config, text| {
                if is_url(text) && !may_be_fetched(text) {
                    return Err(NotPermitted);
                }
                config.access.key_set = present(text);
                Ok(())
            },
        }
        .into(),
        Number {
            name: "auth_jwks_refresh_ms",
            help: "Milliseconds after which a set of keys is fetched from its URL again, or earlier where the answer's `Cache-Control` says `max-age`.",
            default: "300_000",
            range: 100..=86_400_000,
            read: |config| milliseconds(config.access.refresh),
            write: |config, ms| config.access.refresh = Duration::from_millis(ms),
        }
        .into(),
        Number {
            name: "auth_jwks_refresh_ms_min",
            help: "Least milliseconds between two fetches, also where tokens name a key that is not in the set.",
            default: "10_000",
            range: 100..=86_400_000,
            read: |config| milliseconds(config.access.refresh_min),
            write: |config, ms| config.access.refresh_min = Duration::from_millis(ms),
        }
        .into(),
    ]
}

fn claim_settings() -> Vec<Setting> {
    vec![
        Text {
            name: "auth_issuer",
            help: "Issuer (`iss`) that a token must be from; empty: any.",
            placeholder: "TEXT",
            default: "empty",
            permitted: "any text",
            read: |config| config.access.issuer.clone().unwrap_or_default(),
            write: |config, text| {
                config.access.issuer = present(text);
                Ok(())
            },
        }
        .into(),
        Text {
            name: "auth_audience",
            help: "Audience (`aud`) that a token must be meant for; empty: any.",
            placeholder: "TEXT",
            default: "empty",
            permitted: "any text",
            read: |config| config.access.audience.clone().unwrap_or_default(),
            write: |config, text| {
                config.access.audience = present(text);
                Ok(())
            },
        }
        .into(),
        Number {
            name: "auth_leeway_ms",
            help: "Milliseconds by which the issuer's clock and this one may differ: a token counts for so long before `nbf` and after `exp`.",
            default: "10_000",
            range: 0..=600_000,
            read: |config| milliseconds(config.access.leeway),
            write: |config, ms| config.access.leeway = Duration::from_millis(ms),
        }
        .into(),
    ]
}

pub(super) fn present(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Whether the server can send requests to the URL. Userinfo is refused, as the configuration is printed and logged.
pub(super) fn may_be_fetched(url: &str) -> bool {
    let Ok(url) = url.parse::<ureq::http::Uri>() else {
        return false;
    };
    let scheme_fits = matches!(url.scheme_str(), Some("http" | "https"));
    let host_fits = url
        .authority()
        .is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
    scheme_fits && host_fits
}
