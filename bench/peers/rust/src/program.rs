//! How every server starts: one flag, a listener, one line on standard output when it is ready.

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit};

/// How many connections may wait to be accepted. The kernel takes the lesser of it and `net.core.somaxconn`.
const BACKLOG: i32 = 16 * 1024;

/// How long a server waits after a failed accept. It fails when descriptors have run out, and would at once again.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// How long a connection that has been sent a close frame may take to answer it.
pub const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Why a server did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The command line is not `--listen ADDRESS:PORT`.
    #[error("{0}; usage: --listen ADDRESS:PORT")]
    Arguments(#[from] lexopt::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] io::Error),
}

/// Starts a server: reads the command line, listens, says so on standard output, and runs `serve` until it fails.
pub fn run(serve: impl FnOnce(TcpListener) -> io::Result<()>) -> ExitCode {
    match start().and_then(|listener| Ok(serve(listener)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// [`run`] on tokio's multi-thread runtime, with as many workers as the process may use cores.
pub fn run_on_tokio<S, F>(serve: S) -> ExitCode
where
    S: FnOnce(tokio::net::TcpListener) -> F,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    run(|listener| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            // A task of its own runs on a worker, as the connections do; the future of `block_on` would not.
            tokio::spawn(serve(listener)).await?
        })
    })
}

/// Accepts for ever and runs `converse` for each connection as a task of its own. `TCP_NODELAY` is set.
pub async fn accept_each<C, F>(listener: tokio::net::TcpListener, converse: C) -> io::Result<()>
where
    C: Fn(tokio::net::TcpStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            // A socket that cannot be set is one that has gone already: its task finds out.
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(converse(stream));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

fn start() -> Result<TcpListener, ProgramError> {
    let address = address_of(std::env::args_os().skip(1))?;
    allow_all_descriptors();
    let listener = listen(address).map_err(|error| ProgramError::Listen { address, error })?;
    // The kernel takes connections from here on, so this is the truth already.
    println!("listening on ws://{}", listener.local_addr()?);
    io::stdout().flush()?;
    Ok(listener)
}

fn address_of(arguments: impl Iterator<Item = OsString>) -> Result<SocketAddr, lexopt::Error> {
    use lexopt::ValueExt;
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut address = None;
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("listen") => address = Some(parser.value()?.parse()?),
            other => return Err(other.unexpected()),
        }
    }
    address.ok_or_else(|| lexopt::Error::from("--listen is missing"))
}

/// The standard library's listener has a fixed, small backlog, so the socket is made by hand. It does not block.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// A connection is a descriptor, and the soft limit is often 1,024. Where raising it fails, accepting fails later.
fn allow_all_descriptors() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(arguments: &[&str]) -> Result<SocketAddr, lexopt::Error> {
        address_of(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_address_is_read() {
        assert_eq!(
            address(&["--listen", "127.0.0.1:80"]).unwrap(),
            "127.0.0.1:80".parse().unwrap()
        );
        assert_eq!(
            address(&["--listen=[::1]:0"]).unwrap(),
            "[::1]:0".parse().unwrap()
        );
    }

    #[test]
    fn other_arguments_are_refused() {
        for arguments in [
            &[] as &[&str],
            &["--listen"],
            &["--listen", "80"],
            &["--port", "80"],
            &["127.0.0.1:80"],
        ] {
            assert!(address(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn a_listener_is_ready_at_once() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(std::net::TcpStream::connect(listener.local_addr().unwrap()).is_ok());
    }
}
