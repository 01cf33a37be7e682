//! Why a file is no planning workbook at all: one clear sentence each, and what to do.

/// The largest file that is looked at, bytes. The template has 540 KB.
pub(crate) const FILE_MAX: usize = 32 << 20;
/// The largest size that one part may unpack to, bytes.
pub(crate) const PART_MAX: u64 = 256 << 20;
/// The largest size that all parts together may unpack to, bytes.
pub(crate) const TOTAL_MAX: u64 = 512 << 20;
/// The largest size of a part that has to be read to its end (shared strings, styles, list of sheets), bytes.
pub(crate) const INDEX_PART_MAX: u64 = 64 << 20;
/// The most parts in the package. The template has about 40.
pub(crate) const PARTS_MAX: usize = 10_000;
/// The most sheets. The template has 13.
pub(crate) const SHEETS_MAX: usize = 255;
/// As much of a sheet's XML is read before its row 40 must have come, bytes.
pub(crate) const SHEET_READ_MAX: u64 = 32 << 20;
/// The most XML of one part that is handed on to be read, bytes.
pub(crate) const KEPT_MAX: usize = 16 << 20;
/// The most shared strings, found or claimed by `uniqueCount`: a reader reserves 24 bytes for each.
pub(crate) const STRINGS_MAX: u32 = 1 << 20;
/// The largest index `si` of a shared formula: readers make a table up to it.
pub(crate) const SHARED_FORMULAS_MAX: u32 = 65_535;
/// The most cell styles and number formats that a spreadsheet program makes.
pub(crate) const STYLES_MAX: usize = 65_536;
/// The longest code of a number format, bytes. Spreadsheet programs stop at 255 characters.
pub(crate) const FORMAT_MAX: usize = 1024;
/// The longest text of a cell, characters: the limit of spreadsheet programs.
pub(crate) const TEXT_MAX: usize = 32_767;
/// The longest single piece of XML (a tag or a run of text), bytes.
pub(crate) const PIECE_MAX: usize = 1 << 20;
/// The deepest nesting of XML elements.
pub(crate) const DEPTH_MAX: usize = 64;

/// The file as a whole cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the file is empty (0 bytes)")]
    Empty,
    #[error("the file has {bytes} bytes, more than the limit of {FILE_MAX} bytes")]
    FileTooLarge { bytes: usize },
    #[error("the file is not an .xlsx workbook: it is not a zip package")]
    NotAZip,
    #[error("the workbook is protected by a password, so its content is encrypted")]
    Encrypted,
    #[error("the file is a workbook of the old .xls format, not an .xlsx workbook")]
    OldFormat,
    #[error("the file is an old .xls workbook or is protected by a password; it is not a readable .xlsx workbook")]
    OldFormatOrEncrypted,
    #[error("the file is damaged or cut off: the directory of the zip package is missing or unreadable")]
    CutOff,
    #[error("the file is a zip package, but there is no workbook in it")]
    NoWorkbook,
    #[error("the file is an OpenDocument spreadsheet, not an .xlsx workbook")]
    OpenDocument,
    #[error("the file is a binary workbook (.xlsb), not an .xlsx workbook")]
    Binary,
    #[error("the workbook is too large: {what} unpacks to {bytes} bytes, the limit is {limit}")]
    Unpacked { what: String, bytes: u64, limit: u64 },
    #[error("the workbook is too large: it has more than {limit} {what}")]
    TooMany { what: &'static str, limit: usize },
    #[error("the workbook is damaged: {part} cannot be read")]
    Damaged { part: String },
    #[error("the workbook is not acceptable: {part} contains a document type definition or an entity of its own")]
    Entities { part: String },
    #[error("the workbook is too large or too deeply nested: {part} goes beyond the limit of {what}")]
    Excessive { part: String, what: &'static str },
}

impl Fault {
    pub(crate) fn damaged(part: impl Into<String>) -> Self {
        Self::Damaged { part: part.into() }
    }

    /// The stable word.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Empty => "file_empty",
            Self::NotAZip => "not_a_workbook",
            Self::Encrypted => "password_protected",
            Self::OldFormat | Self::OldFormatOrEncrypted | Self::OpenDocument | Self::Binary => "wrong_file_format",
            Self::CutOff | Self::Damaged { .. } => "file_damaged",
            Self::NoWorkbook => "no_workbook",
            Self::FileTooLarge { .. } | Self::Unpacked { .. } | Self::TooMany { .. } | Self::Excessive { .. } => {
                "file_too_large"
            }
            Self::Entities { .. } => "file_not_acceptable",
        }
    }

    /// What to do.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Empty | Self::NotAZip | Self::NoWorkbook => {
                "give the planning workbook (规划表, edition v20250820) as an .xlsx file"
            }
            Self::Encrypted | Self::OldFormatOrEncrypted => {
                "open the workbook in a spreadsheet program and save it as .xlsx without a password to open it"
            }
            Self::OldFormat | Self::OpenDocument | Self::Binary => {
                "open the workbook in a spreadsheet program and save it as .xlsx"
            }
            Self::CutOff | Self::Damaged { .. } => {
                "copy the file again, or open it in a spreadsheet program and save it"
            }
            Self::FileTooLarge { .. }
            | Self::Unpacked { .. }
            | Self::TooMany { .. }
            | Self::Excessive { .. }
            | Self::Entities { .. } => "copy the values into a fresh copy of the planning template",
        }
    }
}
