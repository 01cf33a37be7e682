//! How an input is taken apart: parts between separators rather than behind lengths, so that a part can grow.

use prost::Message;

/// Between two parts of an input.
pub(crate) const SEPARATOR: u8 = 0x1e;
/// Parts that are looked at, at most.
const PARTS_MAX: usize = 16;

/// The first byte, which chooses, and the rest.
pub(crate) fn choice(input: &[u8]) -> (usize, &[u8]) {
    input.split_first().map_or((0, input), |(first, rest)| (usize::from(*first), rest))
}

/// The parts.
pub(crate) fn parts(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|byte| *byte == SEPARATOR).take(PARTS_MAX)
}

/// Messages, each behind its length as protobuf has it, up to the first that is none; or one without a length.
pub(crate) fn messages<M: Message + Default>(mut input: &[u8]) -> Vec<M> {
    let whole = input;
    let mut messages = Vec::new();
    while messages.len() < PARTS_MAX && !input.is_empty() {
        match M::decode_length_delimited(&mut input) {
            Ok(message) => messages.push(message),
            Err(_) => break,
        }
    }
    if messages.is_empty() {
        messages.extend(M::decode(whole));
    }
    messages
}
