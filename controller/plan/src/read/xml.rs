//! XML as a stream of tokens, with a bound on each piece, on the nesting and on the whole. Entities other than the five
//! of XML and character references are refused, and so is a document type: no workbook has one.

use std::{
    borrow::Cow,
    io::{self, BufRead, Read},
    ops::Range,
};

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

use super::fault::{DEPTH_MAX, Fault, PIECE_MAX};

/// So much of a part's end is looked at, bytes: room for the last tag and white space behind it.
const TAIL: usize = 256;

/// One part, read from its beginning.
pub(crate) struct Xml<R> {
    part: String,
    reader: Reader<Metered<R>>,
    piece: Vec<u8>,
    depth: usize,
    /// Where the token that was read last begins.
    start: u64,
}

/// What comes next.
pub(crate) enum Token<'a> {
    /// An element begins. One without content is followed by its [`Token::Close`] as well.
    Open(Element<'a>),
    /// Text, entities resolved.
    Text(Cow<'a, str>),
    /// The element that was opened last ends: its name without prefix.
    Close(Cow<'a, str>),
    /// The part ends.
    End,
}

/// The beginning of an element.
pub(crate) struct Element<'a>(BytesStart<'a>);

impl Element<'_> {
    /// The name without prefix.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.0.local_name().as_ref() == name
    }

    /// The value of an attribute, by its name without prefix; `None` too when it cannot be read.
    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        let mut attributes = self.0.attributes();
        attributes.with_checks(false);
        let found = attributes.flatten().find(|attribute| attribute.key.local_name().as_ref() == name)?;
        found.normalized_value(XmlVersion::Implicit1_0).ok().map(Cow::into_owned)
    }

    /// The attributes as they are written, each with a blank in front; without those of these names.
    pub(crate) fn attributes_but(&self, left_out: &[&str]) -> String {
        let mut attributes = self.0.attributes();
        attributes.with_checks(false);
        let kept = attributes.flatten().filter(|attribute| !left_out.contains(&attribute.key.as_ref()));
        kept.map(|attribute| {
            let quote = if attribute.value.contains('"') { '\'' } else { '"' };
            format!(" {}={quote}{}{quote}", attribute.key.as_ref(), attribute.value)
        })
        .collect()
    }

    /// The prefix of the name with its colon; empty where there is none.
    pub(crate) fn prefix(&self) -> String {
        self.0.name().as_ref().split_once(':').map(|(prefix, _)| format!("{prefix}:")).unwrap_or_default()
    }
}

impl<R: BufRead> Xml<R> {
    /// Reads `part` from `source`, at most `limit` bytes.
    pub(crate) fn new(part: &str, limit: u64, source: R) -> Self {
        let mut reader = Reader::from_reader(Metered { source, piece: 0, left: limit.saturating_add(1) });
        reader.config_mut().expand_empty_elements = true;
        Self { part: part.to_owned(), reader, piece: Vec::with_capacity(1024), depth: 0, start: 0 }
    }

    /// The part's name.
    pub(crate) fn part(&self) -> &str {
        &self.part
    }

    /// Where the token that was read last stands in the part, bytes. The end of an element without content takes none.
    pub(crate) fn span(&self) -> Range<usize> {
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        at(self.start)..at(self.reader.buffer_position())
    }

    /// The next token. Comments, processing instructions and the declaration are passed over.
    pub(crate) fn next(&mut self) -> Result<Token<'static>, Fault> {
        // The loop only looks at the kind of event; the borrow checker wants the returned one to be made outside it.
        let event = loop {
            self.piece.clear();
            self.reader.get_mut().piece = 0;
            self.start = self.reader.buffer_position();
            match self.reader.read_event_into(&mut self.piece) {
                Ok(Event::Comment(_) | Event::PI(_) | Event::Decl(_)) => {}
                Ok(Event::DocType(_)) => return Err(Fault::Entities { part: self.part.clone() }),
                Ok(event) => break event.into_owned(),
                Err(error) => return Err(self.fault(&error)),
            }
        };
        match event {
            Event::Start(start) | Event::Empty(start) => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(self.excessive("nested elements"));
                }
                Ok(Token::Open(Element(start)))
            }
            Event::End(end) => {
                self.depth = self.depth.saturating_sub(1);
                Ok(Token::Close(Cow::Owned(end.local_name().as_ref().to_owned())))
            }
            Event::Text(text) => Ok(Token::Text(Cow::Owned(text.xml10_content().into_owned()))),
            Event::CData(text) => Ok(Token::Text(Cow::Owned(text.xml10_content().into_owned()))),
            Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                Ok(Some(c)) => Ok(Token::Text(Cow::Owned(c.to_string()))),
                Ok(None) => match resolve_predefined_entity(&reference) {
                    Some(text) => Ok(Token::Text(Cow::Borrowed(text))),
                    None => Err(Fault::Entities { part: self.part.clone() }),
                },
                Err(_) => Err(Fault::damaged(&self.part)),
            },
            _ => Ok(Token::End),
        }
    }

    /// Reads on without looking at the content, so that the package's checksum is verified, and checks that the part ends
    /// as a sheet ends. Beyond the limit nothing is looked at: no needed value is there.
    pub(crate) fn finish_sheet(mut self) -> Result<(), Fault> {
        const END: &[u8] = b"worksheet>";
        let source = self.reader.get_mut();
        let mut tail = Vec::new();
        while source.left > 0 {
            source.piece = 0;
            let chunk = source.fill_buf().map_err(|_| Fault::damaged(&self.part))?;
            let length = chunk.len();
            if length == 0 {
                let end = tail.trim_ascii_end();
                return if end.ends_with(END) { Ok(()) } else { Err(Fault::damaged(&self.part)) };
            }
            tail.extend_from_slice(&chunk[length.saturating_sub(TAIL)..]);
            tail.drain(..tail.len().saturating_sub(TAIL));
            source.consume(length);
        }
        Ok(())
    }

    /// The fault "more than the limit of `what`".
    pub(crate) fn excessive(&self, what: &'static str) -> Fault {
        Fault::Excessive { part: self.part.clone(), what }
    }

    fn fault(&self, error: &quick_xml::Error) -> Fault {
        match error {
            quick_xml::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<Over>()) {
                Some(Over(what)) => self.excessive(what),
                None => Fault::damaged(&self.part),
            },
            _ => Fault::damaged(&self.part),
        }
    }
}

/// A limit was reached while reading.
#[derive(Debug, thiserror::Error)]
#[error("more than the limit of {0}")]
struct Over(&'static str);

/// Counts what the XML reader takes, so that one endless tag or text cannot fill the memory.
struct Metered<R> {
    source: R,
    piece: usize,
    left: u64,
}

impl<R: BufRead> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Metered<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece > PIECE_MAX {
            return Err(io::Error::other(Over("one piece of text")));
        }
        if self.left == 0 {
            return Err(io::Error::other(Over("bytes to be read")));
        }
        self.source.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.piece += count;
        self.left = self.left.saturating_sub(count as u64);
        self.source.consume(count);
    }
}
