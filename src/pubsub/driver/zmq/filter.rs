//! What the system is to throw away on a tcp socket before libzmq sees it: programs of the classic packet
//! filter, which sees a segment from its tcp header on.

use std::net::IpAddr;

/// `struct sock_filter`: one step.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Step {
    code: u16,
    then: u8,
    otherwise: u8,
    value: u32,
}

const fn step(code: u16, then: u8, otherwise: u8, value: u32) -> Step {
    Step {
        code,
        then,
        otherwise,
        value,
    }
}

const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD: u16 = 0x20;
const SHIFT_RIGHT: u16 = 0x74;
const IF_EQUAL: u16 = 0x15;
const IF_SET: u16 = 0x45;
const GO_ON: u16 = 0x05;
const RETURN: u16 = 0x06;
const SHIFT_LEFT: u16 = 0x64;
const KEEP: u16 = 0x07;
const LOAD_LENGTH: u16 = 0x80;
const SUBTRACT_KEPT: u16 = 0x1c;

/// Where the length of the tcp header is, and the byte with its flags.
const HEADER_LENGTH: u32 = 12;
const FLAGS: u32 = 13;
const FINISHED: u32 = 1;
const SYNCHRONIZE: u32 = 2;
const RESET: u32 = 4;
/// `SKF_NET_OFF`: where the ip header begins.
const IP: u32 = 0xfff0_0000;
/// Where a sender's address is in that, of either kind.
const SENDER: u32 = 12;
const SENDER_6: u32 = 8;

const DROP: Step = step(RETURN, 0, 0, 0);
const PASS: Step = step(RETURN, 0, 0, u32::MAX);

/// Throws away everything but acknowledgements that carry nothing: with those what is on its way to the
/// other side arrives there, and the end after it.
pub const ONLY_ACKNOWLEDGEMENTS: &[Step] = &[
    step(LOAD_BYTE, 0, 0, FLAGS),
    step(IF_SET, 7, 0, FINISHED | SYNCHRONIZE | RESET),
    // The length of the header, in words, is the upper half of this byte.
    step(LOAD_BYTE, 0, 0, HEADER_LENGTH),
    step(SHIFT_RIGHT, 0, 0, 4),
    step(SHIFT_LEFT, 0, 0, 2),
    step(KEEP, 0, 0, 0),
    step(LOAD_LENGTH, 0, 0, 0),
    step(SUBTRACT_KEPT, 0, 0, 0),
    step(IF_EQUAL, 1, 0, 0),
    DROP,
    PASS,
];

/// Throws away resets, and whatever comes from these addresses.
pub fn program(without: &[IpAddr]) -> Vec<Step> {
    let mut steps = vec![
        step(LOAD_BYTE, 0, 0, FLAGS),
        step(IF_SET, 0, 1, RESET),
        DROP,
    ];
    if !without.is_empty() {
        // A peer of the old kind at a socket of the new one is in a packet of the old kind.
        let (mut old, mut new) = (vec![step(LOAD_WORD, 0, 0, IP + SENDER)], Vec::new());
        for address in without {
            match address.to_canonical() {
                IpAddr::V4(address) => {
                    old.extend([step(IF_EQUAL, 0, 1, address.to_bits()), DROP]);
                }
                IpAddr::V6(address) => {
                    let words = (0..4).map(|n| (address.to_bits() >> (96 - 32 * n)) as u32);
                    for (n, word) in (0..).zip(words) {
                        let to_next = 2 * (3 - n as u8) + 1;
                        new.extend([
                            step(LOAD_WORD, 0, 0, IP + SENDER_6 + 4 * n),
                            step(IF_EQUAL, 0, to_next, word),
                        ]);
                    }
                    new.push(DROP);
                }
            }
        }
        old.push(PASS);
        steps.extend([
            step(LOAD_BYTE, 0, 0, IP),
            step(SHIFT_RIGHT, 0, 0, 4),
            step(IF_EQUAL, 0, 1, 6),
            step(GO_ON, 0, 0, old.len() as u32),
        ]);
        steps.extend(old);
        steps.extend(new);
    }
    steps.push(PASS);
    steps
}
