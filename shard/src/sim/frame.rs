//! WebSocket frames as a client sees them (RFC 6455, section 5.2).
//!
//! Written apart from the engine's own decoder on purpose: one that shared its mistakes would not find them.

/// What a frame is (RFC 6455, section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of the message begun before.
    Continuation = 0x0,
    /// The (first) frame of a text message.
    Text = 0x1,
    /// The (first) frame of a binary message.
    Binary = 0x2,
    /// The close handshake.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// The answer to a ping.
    Pong = 0xA,
}

impl Opcode {
    const ALL: [Self; 6] = [
        Self::Continuation,
        Self::Text,
        Self::Binary,
        Self::Close,
        Self::Ping,
        Self::Pong,
    ];

    const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimFrame {
    /// Whether it is the last of its message.
    pub fin: bool,
    /// What it is.
    pub opcode: Opcode,
    /// Whether its first reserved bit says that the message is compressed (RFC 7692, section 6).
    pub compressed: bool,
    /// The bytes, not masked.
    pub payload: Vec<u8>,
}

impl SimFrame {
    /// A message in one frame, or a control frame.
    #[must_use]
    pub fn whole(opcode: Opcode, payload: &[u8]) -> Self {
        Self {
            fin: true,
            opcode,
            compressed: false,
            payload: payload.to_vec(),
        }
    }

    /// The payload of a close frame (RFC 6455, section 5.5.1).
    #[must_use]
    pub fn close(code: Option<u16>, reason: &str) -> Self {
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend(code.to_be_bytes());
            payload.extend(reason.as_bytes());
        }
        Self::whole(Opcode::Close, &payload)
    }

    /// The frame on the wire, masked as a client must.
    #[must_use]
    pub fn encode(&self, mask: [u8; 4]) -> Vec<u8> {
        let bits = u8::from(self.fin) << 7 | u8::from(self.compressed) << 6;
        let mut bytes = vec![bits | self.opcode as u8];
        match self.payload.len() {
            length @ 0..=125 => bytes.push(0x80 | length as u8),
            length @ 126..=0xFFFF => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(mask);
        let masked = self.payload.iter().zip(mask.iter().cycle());
        bytes.extend(masked.map(|(byte, key)| byte ^ key));
        bytes
    }

    /// The first frame of what a server sent and its length on the wire; `None` where more bytes are needed.
    ///
    /// # Errors
    /// The rule of RFC 6455 that the server broke.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, String> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x30 != 0 {
            return Err(format!("reserved bits in {first:#04x}"));
        }
        let opcode = Opcode::ALL
            .into_iter()
            .find(|opcode| *opcode as u8 == first & 0xF);
        let opcode = opcode.ok_or_else(|| format!("unknown opcode in {first:#04x}"))?;
        let fin = first & 0x80 != 0;
        let compressed = first & 0x40 != 0;
        if compressed && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return Err(format!("reserved bits in {first:#04x}"));
        }
        if second & 0x80 != 0 {
            return Err("a server's frame is masked".to_owned());
        }
        let (extension_size, least) = match second {
            126 => (2, 126),
            127 => (8, 0x1_0000),
            _ => (0, 0),
        };
        let Some(extension) = rest.get(..extension_size) else {
            return Ok(None);
        };
        let extended = extension
            .iter()
            .fold(0, |length, &byte| length << 8 | u64::from(byte));
        let length = match extension_size {
            0 => u64::from(second),
            _ => extended,
        };
        if length < least {
            return Err(format!("a length of {length} takes {extension_size} bytes"));
        }
        if opcode.is_control() && (!fin || length > 125) {
            return Err(format!("{opcode:?} of {length} bytes, fin {fin}"));
        }
        let start = 2 + extension_size;
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| start.checked_add(length))
            .ok_or_else(|| format!("a frame of {length} bytes"))?;
        let Some(payload) = bytes.get(start..end) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        let frame = Self {
            fin,
            opcode,
            compressed,
            payload,
        };
        Ok(Some((frame, end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes the mask off a client's frame, as the server would.
    fn unmasked(frame: &SimFrame) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut bytes = frame.encode(mask);
        let header_size = bytes.len() - frame.payload.len();
        for (index, byte) in bytes[header_size..].iter_mut().enumerate() {
            *byte ^= mask[index % 4];
        }
        bytes.drain(header_size - 4..header_size);
        bytes[1] &= 0x7F;
        bytes
    }

    #[test]
    fn frames_come_back_and_every_prefix_is_incomplete() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|byte: u32| byte as u8).collect();
            let frame = SimFrame::whole(Opcode::Binary, &payload);
            let bytes = unmasked(&frame);
            let decoded = SimFrame::decode(&bytes);
            assert_eq!(decoded, Ok(Some((frame, bytes.len()))), "{length}");
            for prefix in [0, 1, 2, 3, bytes.len() - 1] {
                if prefix < bytes.len() {
                    assert_eq!(SimFrame::decode(&bytes[..prefix]), Ok(None), "{length}");
                }
            }
        }
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // Section 5.7.
        let masked = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        let hello = SimFrame::whole(Opcode::Text, b"Hello");
        assert_eq!(hello.encode([0x37, 0xfa, 0x21, 0x3d]), masked);
        let unmasked = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(SimFrame::decode(&unmasked), Ok(Some((hello, 7))));
    }

    #[test]
    fn what_a_server_may_not_send() {
        let cases: [(&str, &[u8]); 7] = [
            ("reserved bits", &[0xA1, 0x00]),
            ("reserved bits", &[0xC9, 0x00]),
            ("unknown opcode", &[0x83, 0x00]),
            ("masked", &[0x81, 0x80]),
            ("takes 2 bytes", &[0x81, 126, 0, 125]),
            ("Ping of 126", &[0x89, 126, 0, 126]),
            ("fin false", &[0x08, 0x00]),
        ];
        for (rule, bytes) in cases {
            match SimFrame::decode(bytes) {
                Err(message) => assert!(message.contains(rule), "{message}"),
                decoded => panic!("{rule}: {decoded:?}"),
            }
        }
    }
}
