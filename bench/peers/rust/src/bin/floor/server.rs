//! The loop, and the plain protocol.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use shardcast_peers::command::{self, Command};
use shardcast_peers::program;
use slab::Slab;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::connection::{Connection, Outcome, Stage};
use crate::frame::{self, Frame};
use crate::handshake::{self, Route};

/// The listener's mark among the events; connections have their keys in the slab.
const LISTENER: u64 = u64::MAX;
const EVENTS_MAX: usize = 1024;
/// What one `recv` may take. One buffer serves all connections.
const BUFFER_BYTES: usize = 256 * 1024;

/// Why a connection is not read on.
enum End {
    /// It is gone, or too slow, or was no WebSocket.
    Drop,
    /// It is sent a close frame with this code first.
    Close(CloseCode),
    /// It has sent a close frame, and this is the same as the answer.
    Answer(Vec<u8>),
}

pub(crate) struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    connections: Slab<Connection>,
    rooms: HashMap<Box<str>, Vec<usize>>,
    users: HashMap<Box<str>, usize>,
    /// Members that a broadcast found too slow. They go after it.
    too_slow: Vec<usize>,
}

impl Server {
    pub(crate) fn new(listener: TcpListener) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &listener,
            EventData::new_u64(LISTENER),
            EventFlags::IN,
        )?;
        let (connections, rooms, users, too_slow) =
            (Slab::new(), HashMap::new(), HashMap::new(), Vec::new());
        Ok(Self {
            epoll,
            listener,
            connections,
            rooms,
            users,
            too_slow,
        })
    }

    /// Serves until the process is killed.
    ///
    /// # Errors
    ///
    /// Where `epoll_wait` fails.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                if event.data.u64() == LISTENER {
                    self.accept();
                } else {
                    self.attend(event.data.u64() as usize, event.flags, &mut buffer);
                }
            }
        }
    }

    fn accept(&mut self) {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return std::thread::sleep(program::ACCEPT_PAUSE),
            };
            let slot = self.connections.vacant_entry();
            let key = EventData::new_u64(slot.key() as u64);
            // A socket that cannot be set or watched is dropped.
            if socket.set_nodelay(true).is_ok()
                && epoll::add(&self.epoll, &socket, key, EventFlags::IN).is_ok()
            {
                slot.insert(Connection::new(socket));
            }
        }
    }

    /// Handles one event. Its connection may have gone, and another may have its key, since the events were taken:
    /// so every event is only a reason to try.
    fn attend(&mut self, key: usize, flags: EventFlags, buffer: &mut [u8]) {
        if flags.contains(EventFlags::OUT) {
            self.flush(key);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            match self.receive(key, buffer) {
                Ok(()) => {}
                Err(End::Drop) => self.remove(key),
                Err(End::Close(code)) => self.close(key, &frame::close(code)),
                Err(End::Answer(frame)) => self.close(key, &frame),
            }
        }
        while let Some(key) = self.too_slow.pop() {
            self.remove(key);
        }
    }

    fn flush(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.flush()
        {
            self.watch(key, EventFlags::IN);
        }
    }

    fn watch(&self, key: usize, flags: EventFlags) {
        // Fails only for want of kernel memory; what waits then goes with the next message that follows.
        let _ = epoll::modify(
            &self.epoll,
            &self.connections[key].socket,
            EventData::new_u64(key as u64),
            flags,
        );
    }

    /// Takes what has come in and works through whole frames; the beginning of another is kept for the next time.
    fn receive(&mut self, key: usize, buffer: &mut [u8]) -> Result<(), End> {
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(());
        };
        let length = match rustix::net::recv(&connection.socket, &mut *buffer, RecvFlags::DONTWAIT)
        {
            Ok((0, _)) => return Err(End::Drop),
            Ok((length, _)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => return Err(End::Drop),
        };
        let fresh = &mut buffer[..length];
        if connection.unread.is_empty() {
            let done = self.work_through(key, fresh)?;
            self.connections[key]
                .unread
                .extend_from_slice(&fresh[done..]);
        } else {
            let mut received = mem::take(&mut connection.unread);
            received.extend_from_slice(fresh);
            let done = self.work_through(key, &mut received)?;
            received.drain(..done);
            self.connections[key].unread = received;
        }
        Ok(())
    }

    /// Returns how many bytes are done with.
    fn work_through(&mut self, key: usize, received: &mut [u8]) -> Result<usize, End> {
        let mut done = 0;
        loop {
            match self.connections[key].stage {
                Stage::Closing => return Ok(received.len()),
                Stage::Opening => match handshake::upgrade(&received[done..]) {
                    Ok(None) => return Ok(done),
                    Ok(Some(upgrade)) => {
                        done += upgrade.request_length;
                        self.connections[key].stage = Stage::Open(upgrade.route);
                        self.send(key, upgrade.response.as_bytes());
                    }
                    Err(refusal) => {
                        self.send(key, refusal.as_bytes());
                        return Err(End::Drop);
                    }
                },
                Stage::Open(route) => {
                    let Some(frame) = frame::take(&mut received[done..]).map_err(End::Close)?
                    else {
                        return Ok(done);
                    };
                    done += frame.received_length;
                    self.obey(key, route, frame)?;
                }
            }
        }
    }

    fn obey(&mut self, key: usize, route: Route, frame: Frame<'_>) -> Result<(), End> {
        match (frame.opcode, route) {
            (OpCode::Data(Data::Text | Data::Binary), Route::Echo) => {
                self.send(key, frame.unmasked)
            }
            (OpCode::Data(Data::Text), Route::Rooms) => return self.command(key, &frame),
            (OpCode::Control(Control::Ping), _) => {
                frame.unmasked[0] = 0x8a;
                self.send(key, frame.unmasked);
            }
            (OpCode::Control(Control::Pong), _) => {}
            (OpCode::Control(Control::Close), _) => {
                return Err(End::Answer(frame.unmasked.to_vec()));
            }
            _ => return Err(End::Close(CloseCode::Unsupported)),
        }
        Ok(())
    }

    fn command(&mut self, key: usize, frame: &Frame<'_>) -> Result<(), End> {
        let message =
            std::str::from_utf8(frame.payload()).map_err(|_| End::Close(CloseCode::Invalid))?;
        match command::parse(message).map_err(|_| End::Close(CloseCode::Unsupported))? {
            Command::Login(name) => {
                self.log_out(key);
                self.users.insert(name.into(), key);
                self.connections[key].name = Some(name.into());
                self.send(key, frame.unmasked);
            }
            Command::Join(room) => {
                let rooms = &mut self.connections[key].rooms;
                if !rooms.iter().any(|joined| **joined == *room) {
                    rooms.push(room.into());
                    self.rooms.entry(room.into()).or_default().push(key);
                }
                self.send(key, frame.unmasked);
            }
            Command::Send(room) => self.broadcast(room, frame.unmasked),
            Command::Direct(name) => {
                if let Some(&user) = self.users.get(name) {
                    self.send(user, frame.unmasked);
                }
            }
        }
        Ok(())
    }

    /// What is measured: the bare loop.
    fn broadcast(&mut self, room: &str, frame: &[u8]) {
        let Some(members) = self.rooms.get(room) else {
            return;
        };
        let mut blocked = Vec::new();
        for &member in members {
            match self.connections[member].send(frame) {
                Outcome::Taken => {}
                Outcome::Blocked => blocked.push(member),
                Outcome::TooSlow => self.too_slow.push(member),
            }
        }
        for member in blocked {
            self.watch(member, EventFlags::IN | EventFlags::OUT);
        }
    }

    fn send(&mut self, key: usize, frame: &[u8]) {
        match self.connections[key].send(frame) {
            Outcome::Taken => {}
            Outcome::Blocked => self.watch(key, EventFlags::IN | EventFlags::OUT),
            Outcome::TooSlow => self.too_slow.push(key),
        }
    }

    /// Sends the close frame behind all that waits; the connection goes when the peer closes it.
    fn close(&mut self, key: usize, frame: &[u8]) {
        self.leave_all(key);
        self.send(key, frame);
        let connection = &mut self.connections[key];
        connection.stage = Stage::Closing;
        connection.unread = Vec::new();
        connection.end_output();
    }

    fn remove(&mut self, key: usize) {
        // A slow member can be listed more than once.
        if self.connections.contains(key) {
            self.leave_all(key);
            // Closing the descriptor takes it out of the `epoll` set.
            self.connections.remove(key);
        }
    }

    fn leave_all(&mut self, key: usize) {
        self.log_out(key);
        for room in mem::take(&mut self.connections[key].rooms) {
            let Some(members) = self.rooms.get_mut(&room) else {
                continue;
            };
            if let Some(place) = members.iter().position(|&member| member == key) {
                members.swap_remove(place);
            }
            if members.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }

    fn log_out(&mut self, key: usize) {
        if let Some(name) = self.connections[key].name.take()
            && self.users.get(&name) == Some(&key)
        {
            self.users.remove(&name);
        }
    }
}
