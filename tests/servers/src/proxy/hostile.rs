//! Answers of a compromised or broken server.
//!
//! The answers of the real server pass until a position that the seed decides, and are then cut, changed, repeated, dripped
//! or replaced. So every state of a protocol is reached, and the suite needs to know none of them.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::WriteHalf;
use tokio::time::sleep;

/// Answers that pass before the attack: one more than those of a handshake, at most.
const SPARED_MAX: u64 = 12;

/// The limit of an endless answer, far beyond every bound of a client.
const ENDLESS_BYTES: usize = 256 << 20;

/// Sent at once.
const BLOCK: usize = 64 << 10;

/// Between two bytes of an answer that drips, and how many bytes come so.
const DRIP: Duration = Duration::from_millis(20);
const DRIPS_MAX: usize = 50;

/// A connection that does not answer is reset after this time, so that there is another one to attack.
const SILENCE: Duration = Duration::from_secs(1);

/// Answers of one connection that are attacked before it is reset.
const ATTACKED_MAX: u64 = 4;

/// One kind of attack on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    Close,
    Reset,
    Silence,
    Half,
    Garbage,
    Endless,
    Drip,
    Flips,
    HugeLength,
    WrongNumber,
    Twice,
    Text,
}

impl Attack {
    const ALL: [Attack; 12] = [
        Attack::Close,
        Attack::Reset,
        Attack::Silence,
        Attack::Half,
        Attack::Garbage,
        Attack::Endless,
        Attack::Drip,
        Attack::Flips,
        Attack::HugeLength,
        Attack::WrongNumber,
        Attack::Twice,
        Attack::Text,
    ];
}

/// How often each kind of attack was made.
#[derive(Debug, Default)]
pub(super) struct Attacks([AtomicU64; Attack::ALL.len()]);

impl Attacks {
    fn count(&self, attack: Attack) {
        self.0[attack as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counted(&self) -> Vec<(String, u64)> {
        let named = |attack: Attack| {
            let count = self.0[attack as usize].load(Ordering::Relaxed);
            (format!("{attack:?}"), count)
        };
        Attack::ALL.map(named).into()
    }
}

/// The hostility of one connection. Connections take the kinds of attack in turns.
#[derive(Debug)]
pub(super) struct Hostility {
    attack: Attack,
    spared: u64,
    attacked: u64,
    random: Random,
}

impl Hostility {
    /// That of the connection of this number.
    pub(super) fn new(seed: u64, number: u64) -> Hostility {
        let mut random = Random(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let kinds = Attack::ALL.len() as u64;
        let attack = Attack::ALL[((seed % kinds + number % kinds) % kinds) as usize];
        // Half of them attack within the handshake.
        let spared = random.below(SPARED_MAX) * random.below(2);
        Hostility {
            attack,
            spared,
            attacked: 0,
            random,
        }
    }

    /// Sends an answer, or what comes in its place. An error ends the connection with a reset.
    pub(super) async fn send(
        &mut self,
        answer: &[u8],
        to: &mut WriteHalf<'_>,
        attacks: &Attacks,
    ) -> io::Result<()> {
        if self.spared > 0 {
            self.spared -= 1;
            return to.write_all(answer).await;
        }
        if self.attacked == ATTACKED_MAX {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.attacked += 1;
        attacks.count(self.attack);
        let mut bytes = answer.to_vec();
        match self.attack {
            Attack::Close => return to.shutdown().await,
            Attack::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
            Attack::Silence => {
                sleep(SILENCE).await;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Attack::Half => {
                to.write_all(&answer[..answer.len() / 2]).await?;
                return to.shutdown().await;
            }
            Attack::Garbage => bytes = self.random.bytes(BLOCK),
            Attack::Endless => return self.endless(answer, to).await,
            Attack::Drip => {
                for byte in answer.iter().take(DRIPS_MAX) {
                    to.write_all(&[*byte]).await?;
                    sleep(DRIP).await;
                }
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Attack::Flips => {
                for _ in 0..1 + self.random.below(8) {
                    let at = self.random.below(bytes.len().max(1) as u64) as usize;
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.random.below(8);
                    }
                }
            }
            // Frames of ZooKeeper and Kafka begin with their length, which a number of the request follows.
            Attack::HugeLength => self.overwrite(&mut bytes, 0, i32::MAX),
            Attack::WrongNumber => self.overwrite(&mut bytes, 4, 0x0bad_0bad),
            Attack::Twice => bytes.extend_from_slice(answer),
            Attack::Text => {
                let texts: [&[u8]; 6] = [
                    b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
                    b"HTTP/1.1 500 \x1b[31mred\r\nx-thing : 1\r\nno colon\r\n\r\n",
                    b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                    b"-ERR 'Authorization Violation'\r\n",
                    b"MSG _INBOX.x 1 9223372036854775807\r\n",
                    b"INFO {\"server_id\":\"\",\"max_payload\":-1,\"connect_urls\":[\"\"]}\r\n",
                ];
                bytes = texts[self.random.below(texts.len() as u64) as usize].to_vec();
            }
        }
        to.write_all(&bytes).await
    }

    /// Puts a number into the first frame, or into any place.
    fn overwrite(&mut self, bytes: &mut [u8], first: usize, number: i32) {
        let last = bytes.len().saturating_sub(4) as u64;
        let at = match self.random.below(2) {
            0 => first,
            _ => self.random.below(last + 1) as usize,
        };
        if let Some(place) = bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&number.to_be_bytes());
        }
    }

    /// The begin of the answer, and then bytes without an end: the same letter, or anything.
    async fn endless(&mut self, answer: &[u8], to: &mut WriteHalf<'_>) -> io::Result<()> {
        let begin = self.random.below(answer.len() as u64 + 1) as usize;
        to.write_all(&answer[..begin]).await?;
        let block = match self.random.below(2) {
            0 => vec![b'a'; BLOCK],
            _ => self.random.bytes(BLOCK),
        };
        for _ in 0..ENDLESS_BYTES / BLOCK {
            to.write_all(&block).await?;
        }
        Ok(())
    }
}

/// SplitMix64: repeatable, and good enough to choose.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_every_kind_of_attack_in_turns_and_a_seed_repeats_them() {
        let kinds = |seed| -> Vec<Attack> {
            let number = Attack::ALL.len() as u64;
            (0..number)
                .map(|number| Hostility::new(seed, number).attack)
                .collect()
        };
        for seed in [0, 7, u64::MAX] {
            assert_eq!(kinds(seed), kinds(seed));
            for attack in Attack::ALL {
                assert!(kinds(seed).contains(&attack), "{attack:?}");
            }
        }
    }
}
