//! The messages of a ZooKeeper server inside its bytes, so that watch events can be taken out of them.
//!
//! Each message begins with its length and, but for the first, the number of the request that it answers; events have
//! -1 there. Bytes of another protocol pass as they are while nothing is to be taken out.

/// The number of a request, in the place where events have -1.
const EVENT: i32 = -1;
/// Length and number.
const HEAD_BYTES: usize = 8;

/// Whether watch events reach the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hearing {
    /// As everything else does.
    Sound,
    /// They are lost.
    Deaf,
    /// They are lost, and so is every answer but those that open a session or answer a ping.
    PingsAlone,
}

/// The position in the messages of one connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: Vec<u8>,
    /// Bytes of the head that were passed on already.
    shown: usize,
    /// Bytes of the current message that are still missing.
    left: u64,
    is_taken_out: bool,
}

/// The bytes to forward.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sifted {
    pub(super) bytes: Vec<u8>,
    /// Events that were taken out.
    pub(super) events: u64,
}

impl Frames {
    /// Takes the next bytes, and gives those that pass. Of a message that began to pass nothing is held back.
    pub(super) fn sift(&mut self, mut bytes: &[u8], hearing: Hearing) -> Sifted {
        let mut sifted = Sifted::default();
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let here = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                if !self.is_taken_out {
                    sifted.bytes.extend_from_slice(&bytes[..here]);
                }
                self.left -= here as u64;
                bytes = &bytes[here..];
                continue;
            }
            self.head.push(*first);
            bytes = rest;
            if self.head.len() == HEAD_BYTES {
                self.begin(hearing, &mut sifted);
            } else if hearing == Hearing::Sound {
                self.show(&mut sifted);
            }
        }
        sifted
    }

    fn begin(&mut self, hearing: Hearing, sifted: &mut Sifted) {
        let number = |at: usize| {
            let bytes = self.head[at..at + 4].try_into();
            bytes.map_or(0, i32::from_be_bytes)
        };
        let (length, request) = (number(0), number(4));
        let is_lost = match hearing {
            Hearing::Sound => false,
            Hearing::Deaf => request == EVENT,
            // The first message has the version of the protocol in the place of the number, which is 0.
            Hearing::PingsAlone => request == EVENT || request > 0,
        };
        self.is_taken_out = is_lost && self.shown == 0;
        if self.is_taken_out {
            sifted.events += u64::from(request == EVENT);
        } else {
            self.show(sifted);
        }
        // A length that is none: another protocol, which passes to its end.
        self.left = u64::try_from(i64::from(length) - 4).unwrap_or(u64::MAX);
        self.head.clear();
        self.shown = 0;
    }

    fn show(&mut self, sifted: &mut Sifted) {
        sifted.bytes.extend_from_slice(&self.head[self.shown..]);
        self.shown = self.head.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(request: i32, body: &[u8]) -> Vec<u8> {
        let length = i32::try_from(4 + body.len()).unwrap();
        [&length.to_be_bytes()[..], &request.to_be_bytes(), body].concat()
    }

    /// Sifts in pieces of every size: messages do not care for the pieces in which they come.
    fn check(bytes: &[u8], hearing: Hearing, expected: &[u8], events: u64) {
        for size in 1..=bytes.len() {
            let mut frames = Frames::default();
            let mut all = Sifted::default();
            for piece in bytes.chunks(size) {
                let sifted = frames.sift(piece, hearing);
                all.bytes.extend(sifted.bytes);
                all.events += sifted.events;
            }
            assert_eq!((all.bytes.as_slice(), all.events), (expected, events), "{size}");
        }
    }

    #[test]
    fn events_are_taken_out_and_all_else_passes() {
        let (reply, event, empty) = (message(7, b"reply"), message(-1, b"an event"), message(-2, b""));
        let all = [&reply[..], &event, &event, &empty, &event, &reply].concat();
        let heard = [&reply[..], &empty, &reply].concat();
        check(&all, Hearing::Deaf, &heard, 3);
        check(&all, Hearing::Sound, &all, 0);
        let opened = message(0, b"a session");
        let all = [&opened[..], &reply, &event, &empty, &reply].concat();
        check(&all, Hearing::PingsAlone, &[&opened[..], &empty].concat(), 1);
    }

    #[test]
    fn an_event_that_has_begun_to_pass_passes_whole() {
        let event = message(-1, b"an event");
        let mut frames = Frames::default();
        assert_eq!(frames.sift(&event[..3], Hearing::Sound).bytes, event[..3]);
        assert_eq!(frames.sift(&event[3..], Hearing::Deaf).bytes, event[3..]);
        assert_eq!(frames.sift(&event, Hearing::Deaf).events, 1);
    }

    #[test]
    fn bytes_of_another_protocol_pass() {
        let text = b"Zookeeper version: 3.9.5, built on some day";
        check(text, Hearing::Sound, text, 0);
        check(b"imok", Hearing::Sound, b"imok", 0);
    }
}
