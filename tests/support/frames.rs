//! Frames of the PostgreSQL protocol: making the client's, reading the server's.

use std::fmt;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

/// One message from the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub tag: u8,
    /// Everything behind the length.
    pub body: Vec<u8>,
}

impl Frame {
    /// The value of a field of an ErrorResponse or NoticeResponse, for instance `C` (SQLSTATE).
    pub fn field(&self, code: u8) -> Option<String> {
        self.body
            .split(|byte| *byte == 0)
            .find(|field| field.first() == Some(&code))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
    }

    /// SQLSTATE of an ErrorResponse or NoticeResponse.
    pub fn sqlstate(&self) -> String {
        self.field(b'C').unwrap_or_default()
    }

    /// The columns of a DataRow as text; `None` = NULL.
    pub fn columns(&self) -> Vec<Option<String>> {
        assert_eq!(self.tag, b'D', "not a DataRow: {self:?}");
        let mut rest = &self.body[2..];
        let mut columns = Vec::new();
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let length = i32::from_be_bytes(*length);
            match usize::try_from(length) {
                Ok(length) => {
                    columns.push(Some(String::from_utf8_lossy(&tail[..length]).into_owned()));
                    rest = &tail[length..];
                }
                Err(_) => {
                    columns.push(None);
                    rest = tail;
                }
            }
        }
        columns
    }

    /// The strings of the body, for messages that are NUL-terminated strings.
    pub fn strings(&self) -> Vec<String> {
        let text = self.body.strip_suffix(b"\0").unwrap_or(&self.body);
        text.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
    }
}

/// The protocol's name of the message, with what matters of its contents.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tag {
            b'C' => write!(f, "CommandComplete({})", self.strings()[0]),
            b'Z' => write!(f, "ReadyForQuery({})", char::from(self.body[0])),
            b'E' | b'N' => {
                let kind = if self.tag == b'E' { "ErrorResponse" } else { "NoticeResponse" };
                let message = self.field(b'M').unwrap_or_default();
                let severity = self.field(b'S').unwrap_or_default();
                write!(f, "{kind}({severity} {}: {message})", self.sqlstate())
            }
            b'D' => {
                let columns = self.columns();
                let texts: Vec<_> = columns.iter().map(|column| column.as_deref().unwrap_or("NULL")).collect();
                write!(f, "DataRow({})", texts.join(", "))
            }
            b'S' => write!(f, "ParameterStatus({})", self.strings().join("=")),
            tag => match name(tag) {
                Some(name) => f.write_str(name),
                None => write!(f, "Unknown({:?}, {} bytes)", char::from(tag), self.body.len()),
            },
        }
    }
}

/// Names of the server's messages that say all by their name.
fn name(tag: u8) -> Option<&'static str> {
    Some(match tag {
        b'1' => "ParseComplete",
        b'2' => "BindComplete",
        b'3' => "CloseComplete",
        b'A' => "NotificationResponse",
        b'c' => "CopyDone",
        b'd' => "CopyData",
        b'G' => "CopyInResponse",
        b'H' => "CopyOutResponse",
        b'I' => "EmptyQueryResponse",
        b'K' => "BackendKeyData",
        b'n' => "NoData",
        b'R' => "Authentication",
        b's' => "PortalSuspended",
        b't' => "ParameterDescription",
        b'T' => "RowDescription",
        b'V' => "FunctionCallResponse",
        b'v' => "NegotiateProtocolVersion",
        b'W' => "CopyBothResponse",
        _ => return None,
    })
}

/// The frames as one line, for `assert_eq!`.
pub fn summary(frames: &[Frame]) -> String {
    let texts: Vec<_> = frames.iter().map(|frame| format!("{frame:?}")).collect();
    texts.join(" ")
}

/// The types of the frames as one string, such as `12DCZ`.
pub fn tags(frames: &[Frame]) -> String {
    frames.iter().map(|frame| char::from(frame.tag)).collect()
}

/// Client messages in a row, sent in one write.
///
/// `Batch::new().parse("s", "SELECT $1", &[23]).bind("", "s", &[Some("1")]).execute("", 0).sync()`
#[derive(Debug, Default, Clone)]
pub struct Batch {
    bytes: BytesMut,
}

impl Batch {
    /// No message yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many ReadyForQuery it is answered with, when no COPY is in it.
    pub fn readies(&self) -> usize {
        let (mut rest, mut count) = (&self.bytes[..], 0);
        while let [tag, a, b, c, d, ..] = *rest {
            count += usize::from(matches!(tag, b'Q' | b'S' | b'F'));
            rest = &rest[1 + u32::from_be_bytes([a, b, c, d]) as usize..];
        }
        count
    }

    /// Query.
    pub fn query(mut self, sql: &str) -> Self {
        frontend::query(sql, &mut self.bytes).unwrap();
        self
    }

    /// Parse, with parameter type OIDs (0 = the server decides).
    pub fn parse(mut self, name: &str, sql: &str, oids: &[u32]) -> Self {
        frontend::parse(name, sql, oids.iter().copied(), &mut self.bytes).unwrap();
        self
    }

    /// Bind with parameters and results as text.
    pub fn bind(mut self, portal: &str, statement: &str, values: &[Option<&str>]) -> Self {
        let made = frontend::bind(
            portal,
            statement,
            [],
            values,
            |value, buf| {
                Ok(match value {
                    Some(text) => {
                        buf.extend_from_slice(text.as_bytes());
                        IsNull::No
                    }
                    None => IsNull::Yes,
                })
            },
            [],
            &mut self.bytes,
        );
        assert!(made.is_ok(), "a Bind that can't be made");
        self
    }

    /// Describe of a statement (`b'S'`) or portal (`b'P'`).
    pub fn describe(mut self, kind: u8, name: &str) -> Self {
        frontend::describe(kind, name, &mut self.bytes).unwrap();
        self
    }

    /// Execute; `max_rows` 0 = all.
    pub fn execute(mut self, portal: &str, max_rows: i32) -> Self {
        frontend::execute(portal, max_rows, &mut self.bytes).unwrap();
        self
    }

    /// Close of a statement (`b'S'`) or portal (`b'P'`).
    pub fn close(mut self, kind: u8, name: &str) -> Self {
        frontend::close(kind, name, &mut self.bytes).unwrap();
        self
    }

    /// Parse, Bind, Describe and Execute of the unnamed statement and portal.
    pub fn run(self, sql: &str, values: &[Option<&str>]) -> Self {
        self.parse("", sql, &[]).bind("", "", values).describe(b'P', "").execute("", 0)
    }

    /// Flush.
    pub fn flush(self) -> Self {
        self.raw(b'H', &[])
    }

    /// Sync.
    pub fn sync(self) -> Self {
        self.raw(b'S', &[])
    }

    /// CopyData.
    pub fn copy_data(self, data: &[u8]) -> Self {
        self.raw(b'd', data)
    }

    /// CopyDone.
    pub fn copy_done(self) -> Self {
        self.raw(b'c', &[])
    }

    /// CopyFail.
    pub fn copy_fail(mut self, reason: &str) -> Self {
        frontend::copy_fail(reason, &mut self.bytes).unwrap();
        self
    }

    /// Terminate.
    pub fn terminate(self) -> Self {
        self.raw(b'X', &[])
    }

    /// Bytes as they are, whole messages or not.
    pub fn bytes_of(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Any message: a type and a body.
    pub fn raw(mut self, tag: u8, body: &[u8]) -> Self {
        let length = u32::try_from(body.len() + 4).unwrap();
        self.bytes.extend_from_slice(&[tag]);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(body);
        self
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
