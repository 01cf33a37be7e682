//! One multipart body with one part, checked while its pieces pass by. Pure; copies nothing of the file and keeps nothing
//! of it: how long the file has to be is known beforehand, so its end is not searched for.

/// Most bytes before the file: the first boundary and the part's own headers.
const HEAD_MAX: usize = 4096;
/// Most characters of a boundary (RFC 2046).
const BOUNDARY_MAX: usize = 70;
/// The end of the part's headers.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    #[error("the body is not multipart/form-data with a boundary")]
    NotMultipart,
    #[error("the part's headers are too long, or not those of a part named file")]
    Head,
    #[error("the body has another length than the chunk")]
    Length,
    #[error("the body does not end in its boundary")]
    Tail,
}

/// A body on its way in.
#[derive(Debug)]
pub struct Part {
    /// With the two dashes before it.
    boundary: Vec<u8>,
    /// Bytes of the whole body, by its Content-Length.
    declared: u64,
    /// Bytes of the file that are still to come.
    left: u64,
    /// What came before the file; `None` once it was complete.
    head: Option<Vec<u8>>,
    tail: Vec<u8>,
}

impl Part {
    /// `declared`: the body's Content-Length; `expected`: bytes of the file in it.
    pub fn new(content_type: &str, declared: u64, expected: u64) -> Result<Self, Bad> {
        let boundary = boundary(content_type).ok_or(Bad::NotMultipart)?;
        let boundary = [b"--", boundary.as_bytes()].concat();
        Ok(Self { boundary, declared, left: expected, head: Some(Vec::new()), tail: Vec::new() })
    }

    /// Takes the next piece of the body; gives what of it is the file's.
    pub fn push<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], Bad> {
        let rest = match self.head.take() {
            None => piece,
            Some(head) => self.take_head(head, piece)?,
        };
        let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
        let (file, tail) = rest.split_at(here);
        self.left -= here as u64;
        if self.tail.len() + tail.len() > self.longest_tail() {
            return Err(Bad::Length);
        }
        self.tail.extend_from_slice(tail);
        Ok(file)
    }

    /// The body has ended.
    pub fn finish(self) -> Result<(), Bad> {
        if self.head.is_some() || self.left > 0 {
            return Err(Bad::Length);
        }
        let end = [b"\r\n", self.boundary.as_slice(), b"--"].concat();
        let rest = self.tail.strip_prefix(end.as_slice()).ok_or(Bad::Tail)?;
        if rest.is_empty() || rest == b"\r\n" { Ok(()) } else { Err(Bad::Tail) }
    }

    /// Looks for the end of the headers; gives what of the piece comes after it.
    fn take_head<'a>(&mut self, mut head: Vec<u8>, piece: &'a [u8]) -> Result<&'a [u8], Bad> {
        let before = head.len();
        head.extend_from_slice(&piece[..piece.len().min(HEAD_MAX - before)]);
        let from = before.saturating_sub(HEAD_END.len() - 1);
        let Some(end) = head[from..].windows(HEAD_END.len()).position(|window| window == HEAD_END) else {
            if head.len() >= HEAD_MAX {
                return Err(Bad::Head);
            }
            self.head = Some(head);
            return Ok(&[]);
        };
        let length = from + end + HEAD_END.len();
        self.check_head(&head[..length])?;
        let longest = length as u64 + self.left + self.longest_tail() as u64;
        if self.declared != longest && self.declared + 2 != longest {
            return Err(Bad::Length);
        }
        Ok(&piece[length - before..])
    }

    fn check_head(&self, head: &[u8]) -> Result<(), Bad> {
        let headers = head.strip_prefix(self.boundary.as_slice()).and_then(|rest| rest.strip_prefix(b"\r\n"));
        let headers = std::str::from_utf8(headers.ok_or(Bad::Head)?).map_err(|_| Bad::Head)?;
        let named = |line: &str| {
            let lower = line.to_ascii_lowercase();
            lower.starts_with("content-disposition:")
                && lower.contains("form-data")
                && lower.contains("; name=\"file\"")
        };
        if headers.split("\r\n").any(named) { Ok(()) } else { Err(Bad::Head) }
    }

    /// The last boundary with its dashes, and the line breaks around it.
    fn longest_tail(&self) -> usize {
        self.boundary.len() + 6
    }
}

fn boundary(content_type: &str) -> Option<&str> {
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case("boundary").then_some(value.trim())
    })?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    (1..=BOUNDARY_MAX).contains(&value.len()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=xYz";

    fn body(file: &[u8], end: &str) -> Vec<u8> {
        let head = "--xYz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.iso\"\r\n\
                    Content-Type: application/octet-stream\r\n\r\n";
        [head.as_bytes(), file, b"\r\n--xYz--", end.as_bytes()].concat()
    }

    /// Feeds a body in pieces of this size.
    fn take(body: &[u8], declared: usize, expected: usize, size: usize) -> Result<Vec<u8>, Bad> {
        let mut part = Part::new(TYPE, declared as u64, expected as u64)?;
        let mut file = Vec::new();
        for piece in body.chunks(size) {
            file.extend_from_slice(part.push(piece)?);
        }
        part.finish().map(|()| file)
    }

    #[test]
    fn the_file_comes_out_whole_however_it_is_cut() {
        // What looks like the end inside of the file is the file's.
        let file = b"abc\r\n--xYz--\r\n\r\n\r\n--xYz\r\nmore".repeat(3);
        for end in ["", "\r\n"] {
            let body = body(&file, end);
            for size in 1..=body.len() {
                assert_eq!(take(&body, body.len(), file.len(), size).as_deref(), Ok(file.as_slice()), "{size} {end:?}");
            }
        }
    }

    #[test]
    fn an_empty_file_is_a_file() {
        let body = body(b"", "\r\n");
        assert_eq!(take(&body, body.len(), 0, 7), Ok(Vec::new()));
    }

    #[test]
    fn another_length_than_the_chunks_is_refused_before_the_file_is_read() {
        let body = body(&[7; 100], "\r\n");
        for expected in [0, 97, 99, 101, 5000] {
            let mut part = Part::new(TYPE, body.len() as u64, expected).unwrap();
            assert_eq!(part.push(&body[..200]), Err(Bad::Length), "{expected}");
        }
        assert_eq!(take(&body, body.len() - 1, 100, 4096), Err(Bad::Length));
        // Two more: as a body without the last line break would have. Then the end is not where it should be.
        assert_eq!(take(&body, body.len(), 102, 4096), Err(Bad::Tail));
        assert_eq!(take(&body[..150], body.len(), 100, 4096), Err(Bad::Length));
        let long = [body.as_slice(), b"..."].concat();
        assert_eq!(take(&long, body.len(), 100, 4096), Err(Bad::Length));
    }

    #[test]
    fn a_body_that_is_cut_short_or_ends_otherwise_is_refused() {
        let mut body = body(&[7; 100], "\r\n");
        let length = body.len();
        for (cut, bad) in [(1, Bad::Tail), (3, Bad::Tail), (11, Bad::Tail), (12, Bad::Length)] {
            assert_eq!(take(&body[..length - cut], length, 100, 64), Err(bad), "{cut}");
        }
        body[length - 8] = b'?';
        assert_eq!(take(&body, length, 100, 64), Err(Bad::Tail));
    }

    #[test]
    fn only_one_part_named_file_is_taken() {
        let refused = |head: &str| {
            let body = [head.as_bytes(), b"data\r\n--xYz--\r\n"].concat();
            take(&body, body.len(), 4, 50)
        };
        assert_eq!(refused("--xYz\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\n"), Err(Bad::Head));
        assert_eq!(refused("--xYz\r\nContent-Disposition: form-data; filename=\"file\"\r\n\r\n"), Err(Bad::Head));
        assert_eq!(refused("--abc\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n"), Err(Bad::Head));
        assert_eq!(refused("no part at all\r\n\r\n"), Err(Bad::Head));
        assert_eq!(refused(&format!("--xYz\r\nX: {}\r\n\r\n", "x".repeat(HEAD_MAX))), Err(Bad::Head));
        assert_eq!(refused("--xYz\r\ncontent-disposition: FORM-DATA; name=\"file\"\r\n\r\n"), Ok(b"data".to_vec()));
    }

    #[test]
    fn the_boundary_is_found_in_every_spelling() {
        assert_eq!(boundary("multipart/form-data; boundary=a-B"), Some("a-B"));
        assert_eq!(boundary("Multipart/Form-Data; charset=x; Boundary=\"a b\""), Some("a b"));
        for bad in ["", "text/plain; boundary=a", "multipart/form-data", "multipart/form-data; boundary="] {
            assert_eq!(boundary(bad), None, "{bad}");
        }
        assert_eq!(boundary(&format!("multipart/form-data; boundary={}", "a".repeat(BOUNDARY_MAX + 1))), None);
    }
}
