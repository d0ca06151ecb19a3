//! A driver, its address, and the patience to wait for what it reports.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use shardcast_shard::driver::{BufferId, Completion, ConnectionKey, Driver, ReceiveEnd};
use shardcast_shard::limits::Limits;
use shardcast_shard::ring::{Capabilities, Peers, RingDriver, RingOptions, bound_address, listen};

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long to look for something that must not happen.
pub(crate) const SETTLE: Duration = Duration::from_millis(50);

/// Whether this kernel can run the driver; says why not.
pub(crate) fn is_supported() -> bool {
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(|| match Capabilities::probe() {
        Ok(capabilities) if capabilities.is_sufficient() => true,
        Ok(capabilities) => {
            println!("skipped: {capabilities}");
            false
        }
        Err(error) => {
            println!("skipped: {error}");
            false
        }
    })
}

/// What a test may vary.
pub(crate) struct Setup {
    pub(crate) table_size: u32,
    pub(crate) with_addresses: bool,
    pub(crate) limits: Limits,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            table_size: 256,
            with_addresses: false,
            limits: small_limits(),
        }
    }
}

/// Bytes that are more than the kernel takes of a send to somebody who does not read, with [`small_send_buffers`].
pub(crate) const STUCK: usize = 250 << 10;

/// Send buffers that are full soon.
pub(crate) fn small_send_buffers() -> Setup {
    Setup {
        limits: Limits {
            socket_send_bytes: 16 << 10,
            ..small_limits()
        },
        ..Setup::default()
    }
}

/// Small queues, so that tests of full ones are short.
pub(crate) fn small_limits() -> Limits {
    Limits {
        submissions_max: 64,
        completions_max: 1024,
        receive_buffers_max: 64,
        receive_buffer_bytes: 4096,
        backlog_max: 512,
        ..Limits::default()
    }
}

pub(crate) struct Harness {
    pub(crate) driver: RingDriver,
    /// Where the driver listens, or what it connects to.
    pub(crate) address: SocketAddr,
    pub(crate) peers: Arc<Peers>,
    pub(crate) reported: VecDeque<Completion>,
}

impl Harness {
    /// A driver that listens. `None`, with the reason printed, where the kernel lacks what is needed.
    pub(crate) fn new(setup: &Setup) -> Option<Self> {
        is_supported().then(|| {
            let listener = listen("127.0.0.1:0".parse().unwrap(), &setup.limits).unwrap();
            let address = bound_address(&listener).unwrap();
            Self::with_listener(Some(listener), address, setup)
        })
    }

    /// A driver that only connects. `None` as above.
    pub(crate) fn connecting(target: SocketAddr, setup: &Setup) -> Option<Self> {
        is_supported().then(|| Self::with_listener(None, target, setup))
    }

    fn with_listener(listener: Option<OwnedFd>, address: SocketAddr, setup: &Setup) -> Self {
        let peers = Arc::new(Peers::new(2).unwrap());
        let driver = RingDriver::new(RingOptions {
            listener: listener.map(Arc::new),
            table_size: setup.table_size,
            shard: 0,
            peers: Arc::clone(&peers),
            accept_one_by_one: setup.with_addresses,
            limits: &setup.limits,
        })
        .unwrap();
        Self {
            driver,
            address,
            peers,
            reported: VecDeque::new(),
        }
    }

    /// One pass that waits for `timeout` at the most.
    pub(crate) fn pass(&mut self, timeout: Duration) {
        let mut completions = Vec::new();
        self.driver.wait(&mut completions, Some(timeout)).unwrap();
        self.reported.extend(completions);
    }

    /// Passes until something matches; takes that out and leaves the rest in order.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&Completion) -> Option<T>,
    ) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self
                .reported
                .iter()
                .enumerate()
                .find_map(|(index, completion)| Some((index, wanted(completion)?)));
            if let Some((index, found)) = found {
                self.reported.remove(index);
                return found;
            }
            assert!(
                Instant::now() < end,
                "no {what} among {:?}, {:?}",
                self.reported,
                self.driver.counters()
            );
            self.pass(Duration::from_millis(20));
        }
    }

    /// Passes for a while, to see that nothing more comes.
    pub(crate) fn settle(&mut self) {
        let end = Instant::now() + SETTLE;
        while Instant::now() < end {
            self.pass(Duration::from_millis(5));
        }
    }

    pub(crate) fn accepted(&mut self) -> ConnectionKey {
        self.until("accept", |completion| match completion {
            Completion::Accepted { slot, .. } => Some(ConnectionKey::new(*slot, 1)),
            _ => None,
        })
    }

    /// Connects a client and accepts it.
    pub(crate) fn connect(&mut self) -> (TcpStream, ConnectionKey) {
        let client = client(self.address);
        let key = self.accepted();
        (client, key)
    }

    /// How the connect of a key has ended.
    pub(crate) fn connected(&mut self, of: ConnectionKey) -> Result<(), i32> {
        self.until("connected", |completion| match completion {
            Completion::Connected { key, result } if *key == of => Some(*result),
            _ => None,
        })
    }

    pub(crate) fn accept_ended(&mut self) -> Option<i32> {
        self.until("end of accepting", |completion| match completion {
            Completion::AcceptEnded { error } => Some(*error),
            _ => None,
        })
    }

    /// The next buffer with bytes of a connection. The caller gives it back.
    pub(crate) fn received(&mut self, of: ConnectionKey) -> (BufferId, usize) {
        self.until("bytes", |completion| match completion {
            Completion::Received {
                key,
                buffer,
                length,
            } if *key == of => Some((*buffer, *length)),
            _ => None,
        })
    }

    /// Copies a buffer's bytes and gives it back.
    pub(crate) fn take(&mut self, buffer: BufferId, length: usize, into: &mut Vec<u8>) {
        into.extend_from_slice(self.driver.buffer(buffer, length));
        self.driver.buffer_release(buffer);
    }

    /// Receives at least `count` bytes of a connection that is being received from.
    pub(crate) fn read(&mut self, of: ConnectionKey, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let (buffer, length) = self.received(of);
            self.take(buffer, length, &mut bytes);
        }
        bytes
    }

    pub(crate) fn receive_ended(&mut self, of: ConnectionKey) -> ReceiveEnd {
        self.until("end of receiving", |completion| match completion {
            Completion::ReceiveEnded { key, end } if *key == of => Some(*end),
            _ => None,
        })
    }

    pub(crate) fn sent(&mut self, of: ConnectionKey) -> Result<usize, i32> {
        self.until("sent", |completion| match completion {
            Completion::Sent { key, result } if *key == of => Some(*result),
            _ => None,
        })
    }

    pub(crate) fn close(&mut self, key: ConnectionKey) {
        self.driver.close(key);
        self.until("closed", |completion| {
            (*completion == Completion::Closed { key }).then_some(())
        });
    }

    pub(crate) fn shut_down(&mut self, key: ConnectionKey) {
        self.until("shut down", |completion| {
            (*completion == Completion::ShutDown { key }).then_some(())
        });
    }
}

/// A client that never blocks a test for ever.
pub(crate) fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A client that lets its peer send it half a kilobyte at a time.
pub(crate) fn client_with_tiny_window(address: SocketAddr) -> TcpStream {
    let SocketAddr::V4(target) = address else {
        panic!("{address} is not of IPv4");
    };
    let target = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: target.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*target.ip()).to_be(),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: the call takes no memory.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    assert!(socket >= 0);
    // SAFETY: the descriptor is new, valid and owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let bytes: libc::c_int = 1024;
    // Before the connection, as the window that was offered once stays.
    // SAFETY: the pointer is to a live integer and its size is given.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0);
    // SAFETY: the pointer is to a live address and its size is given.
    let connected = unsafe {
        libc::connect(
            socket.as_raw_fd(),
            (&raw const target).cast(),
            size_of_val(&target) as libc::socklen_t,
        )
    };
    assert_eq!(connected, 0);
    TcpStream::from(socket)
}

/// Bytes in which every position is recognisable.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}
