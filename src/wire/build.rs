//! Builders of the messages that Trunkline makes itself. Each appends one whole message to `out`.

use super::startup::CancelKey;
use super::{TxStatus, startup};

/// Appends a message: type, length, and what `body` writes.
pub fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend([0; 4]);
    body(out);
    set_len(out, start);
}

fn set_len(out: &mut [u8], start: usize) {
    let len = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

fn cstr(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.push(0);
}

/// StartupMessage.
pub fn startup(out: &mut Vec<u8>, version: u32, parameters: &[(&str, &str)]) {
    let start = out.len();
    out.extend([0; 4]);
    out.extend(version.to_be_bytes());
    for (name, value) in parameters {
        cstr(out, name.as_bytes());
        cstr(out, value.as_bytes());
    }
    out.push(0);
    set_len(out, start);
}

/// SSLRequest.
pub fn ssl_request(out: &mut Vec<u8>) {
    out.extend(8u32.to_be_bytes());
    out.extend(startup::SSL_REQUEST.to_be_bytes());
}

/// CancelRequest.
pub fn cancel_request(out: &mut Vec<u8>, key: &CancelKey) {
    let start = out.len();
    out.extend([0; 4]);
    out.extend(startup::CANCEL_REQUEST.to_be_bytes());
    out.extend(key.pid.to_be_bytes());
    out.extend_from_slice(&key.secret);
    set_len(out, start);
}

/// NegotiateProtocolVersion: the newest minor that we speak, and the options that we do not know.
pub fn negotiate_protocol_version(out: &mut Vec<u8>, minor: u16, unknown_options: &[String]) {
    message(out, b'v', |out| {
        out.extend((startup::PROTOCOL_3_0 | u32::from(minor)).to_be_bytes());
        out.extend(u32::try_from(unknown_options.len()).unwrap_or(0).to_be_bytes());
        for option in unknown_options {
            cstr(out, option.as_bytes());
        }
    });
}

/// AuthenticationOk.
pub fn authentication_ok(out: &mut Vec<u8>) {
    message(out, b'R', |out| out.extend(0u32.to_be_bytes()));
}

/// ParameterStatus.
pub fn parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    message(out, b'S', |out| {
        cstr(out, name);
        cstr(out, value);
    });
}

/// BackendKeyData.
pub fn backend_key_data(out: &mut Vec<u8>, key: &CancelKey) {
    message(out, b'K', |out| {
        out.extend(key.pid.to_be_bytes());
        out.extend_from_slice(&key.secret);
    });
}

/// ReadyForQuery.
pub fn ready_for_query(out: &mut Vec<u8>, status: TxStatus) {
    message(out, b'Z', |out| out.push(status.as_byte()));
}

/// CommandComplete.
pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, b'C', |out| cstr(out, tag.as_bytes()));
}

/// Query.
pub fn query(out: &mut Vec<u8>, sql: &[u8]) {
    message(out, b'Q', |out| cstr(out, sql));
}

/// Parse. `types` is what follows the statement's text on the wire: count and parameter OIDs.
pub fn parse(out: &mut Vec<u8>, name: &[u8], sql: &[u8], types: &[u8]) {
    message(out, b'P', |out| {
        cstr(out, name);
        cstr(out, sql);
        out.extend_from_slice(types);
    });
}

/// Bind. `rest` is what follows the statement's name on the wire: formats and parameters.
pub fn bind(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], rest: &[u8]) {
    message(out, b'B', |out| {
        cstr(out, portal);
        cstr(out, statement);
        out.extend_from_slice(rest);
    });
}

/// Bind without parameters.
pub fn bind_nothing(out: &mut Vec<u8>, portal: &[u8], statement: &[u8]) {
    bind(out, portal, statement, &[0; 6]);
}

/// Execute of a whole portal.
pub fn execute(out: &mut Vec<u8>, portal: &[u8]) {
    message(out, b'E', |out| {
        cstr(out, portal);
        out.extend([0; 4]);
    });
}

/// Parse, Bind and Execute of a statement without parameters, unnamed. `sql` ends with its NUL.
pub fn run_unnamed(out: &mut Vec<u8>, sql: &[u8]) {
    message(out, b'P', |out| {
        out.push(0);
        out.extend_from_slice(sql);
        out.extend_from_slice(&[0, 0]);
    });
    message(out, b'B', |out| out.extend_from_slice(&[0; 8]));
    message(out, b'E', |out| out.extend_from_slice(&[0; 5]));
}

/// Describe of a statement.
pub fn describe_statement(out: &mut Vec<u8>, name: &[u8]) {
    message(out, b'D', |out| {
        out.push(b'S');
        cstr(out, name);
    });
}

/// Close of a statement.
pub fn close_statement(out: &mut Vec<u8>, name: &[u8]) {
    message(out, b'C', |out| {
        out.push(b'S');
        cstr(out, name);
    });
}

/// Close of a portal.
pub fn close_portal(out: &mut Vec<u8>, name: &[u8]) {
    message(out, b'C', |out| {
        out.push(b'P');
        cstr(out, name);
    });
}

/// Flush.
pub fn flush(out: &mut Vec<u8>) {
    message(out, b'H', |_| {});
}

/// Sync.
pub fn sync(out: &mut Vec<u8>) {
    message(out, b'S', |_| {});
}

/// Terminate.
pub fn terminate(out: &mut Vec<u8>) {
    message(out, b'X', |_| {});
}

/// A message without a body: ParseComplete `1`, BindComplete `2`, CloseComplete `3`, NoData `n`, EmptyQueryResponse `I` …
pub fn bare(out: &mut Vec<u8>, tag: u8) {
    message(out, tag, |_| {});
}

/// ParameterDescription of a statement that has no parameters.
pub fn no_parameters(out: &mut Vec<u8>) {
    message(out, b't', |out| out.extend_from_slice(&[0, 0]));
}

/// RowDescription of text columns (OID 25), for the few answers that we give ourselves.
pub fn text_columns(out: &mut Vec<u8>, names: &[&str]) {
    columns(out, names, 0);
}

/// RowDescription of one text column in this format: 0 is text, 1 binary.
pub fn text_column(out: &mut Vec<u8>, name: &str, format: u16) {
    columns(out, &[name], format);
}

fn columns(out: &mut Vec<u8>, names: &[&str], format: u16) {
    message(out, b'T', |out| {
        out.extend(u16::try_from(names.len()).unwrap_or(0).to_be_bytes());
        for name in names {
            cstr(out, name.as_bytes());
            out.extend([0; 6]);
            out.extend(25u32.to_be_bytes());
            out.extend((-1i16).to_be_bytes());
            out.extend((-1i32).to_be_bytes());
            out.extend(format.to_be_bytes());
        }
    });
}

/// DataRow of text values.
pub fn text_row(out: &mut Vec<u8>, values: &[&str]) {
    message(out, b'D', |out| {
        out.extend(u16::try_from(values.len()).unwrap_or(0).to_be_bytes());
        for value in values {
            out.extend(u32::try_from(value.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(value.as_bytes());
        }
    });
}
