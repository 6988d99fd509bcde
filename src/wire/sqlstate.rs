//! The SQLSTATEs that Trunkline itself sends or acts on (PostgreSQL's appendix "Error Codes").

use std::fmt;

/// A five-character SQLSTATE.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// 00000
    pub const SUCCESS: Self = Self(*b"00000");
    /// 08006 connection_failure
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// 08007 transaction_resolution_unknown
    pub const RESOLUTION_UNKNOWN: Self = Self(*b"08007");
    /// 08P01 protocol_violation
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// 0A000 feature_not_supported
    pub const FEATURE_NOT_SUPPORTED: Self = Self(*b"0A000");
    /// 22023 invalid_parameter_value
    pub const INVALID_PARAMETER_VALUE: Self = Self(*b"22023");
    /// 22021 character_not_in_repertoire
    pub const BAD_CHARACTER: Self = Self(*b"22021");
    /// 25006 read_only_sql_transaction
    pub const READ_ONLY_TRANSACTION: Self = Self(*b"25006");
    /// 25P01 no_active_sql_transaction
    pub const NO_ACTIVE_TRANSACTION: Self = Self(*b"25P01");
    /// 25P02 in_failed_sql_transaction
    pub const IN_FAILED_TRANSACTION: Self = Self(*b"25P02");
    /// 25P03 idle_in_transaction_session_timeout
    pub const IDLE_IN_TRANSACTION_TIMEOUT: Self = Self(*b"25P03");
    /// 25P04 transaction_timeout
    pub const TRANSACTION_TIMEOUT: Self = Self(*b"25P04");
    /// 26000 invalid_sql_statement_name
    pub const INVALID_STATEMENT_NAME: Self = Self(*b"26000");
    /// 28000 invalid_authorization_specification
    pub const INVALID_AUTHORIZATION: Self = Self(*b"28000");
    /// 28P01 invalid_password
    pub const INVALID_PASSWORD: Self = Self(*b"28P01");
    /// 3D000 invalid_catalog_name
    pub const UNKNOWN_DATABASE: Self = Self(*b"3D000");
    /// 34000 invalid_cursor_name
    pub const INVALID_CURSOR_NAME: Self = Self(*b"34000");
    /// 42501 insufficient_privilege
    pub const INSUFFICIENT_PRIVILEGE: Self = Self(*b"42501");
    /// 22P02 invalid_text_representation
    pub const INVALID_TEXT_REPRESENTATION: Self = Self(*b"22P02");
    /// 22P03 invalid_binary_representation
    pub const INVALID_BINARY_REPRESENTATION: Self = Self(*b"22P03");
    /// 42703 undefined_column
    pub const UNDEFINED_COLUMN: Self = Self(*b"42703");
    /// 42803 grouping_error
    pub const GROUPING_ERROR: Self = Self(*b"42803");
    /// 42883 undefined_function
    pub const UNDEFINED_FUNCTION: Self = Self(*b"42883");
    /// 42P01 undefined_table
    pub const UNDEFINED_TABLE: Self = Self(*b"42P01");
    /// 42P10 invalid_column_reference
    pub const INVALID_COLUMN_REFERENCE: Self = Self(*b"42P10");
    /// 42601 syntax_error
    pub const SYNTAX_ERROR: Self = Self(*b"42601");
    /// 42602 invalid_name
    pub const INVALID_NAME: Self = Self(*b"42602");
    /// 42704 undefined_object
    pub const UNDEFINED_OBJECT: Self = Self(*b"42704");
    /// 42P05 duplicate_prepared_statement
    pub const DUPLICATE_STATEMENT: Self = Self(*b"42P05");
    /// 53300 too_many_connections
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// 53400 configuration_limit_exceeded
    pub const CONFIGURATION_LIMIT_EXCEEDED: Self = Self(*b"53400");
    /// 54000 program_limit_exceeded
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self(*b"54000");
    /// 54001 statement_too_complex
    pub const STATEMENT_TOO_COMPLEX: Self = Self(*b"54001");
    /// 55000 object_not_in_prerequisite_state
    pub const NOT_IN_PREREQUISITE_STATE: Self = Self(*b"55000");
    /// 55P02 cant_change_runtime_param
    pub const CANT_CHANGE_RUNTIME_PARAM: Self = Self(*b"55P02");
    /// 57014 query_canceled
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    /// 57P01 admin_shutdown
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    /// 57P02 crash_shutdown
    pub const CRASH_SHUTDOWN: Self = Self(*b"57P02");
    /// 57P03 cannot_connect_now
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// 57P05 idle_session_timeout
    pub const IDLE_SESSION_TIMEOUT: Self = Self(*b"57P05");
    /// 58000 system_error
    pub const SYSTEM_ERROR: Self = Self(*b"58000");
    /// F0000 config_file_error
    pub const CONFIG_FILE_ERROR: Self = Self(*b"F0000");
    /// XX000 internal_error
    pub const INTERNAL_ERROR: Self = Self(*b"XX000");

    /// Takes five bytes of digits and capitals, as servers send them.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let code: [u8; 5] = bytes.try_into().ok()?;
        code.iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()).then_some(Self(code))
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// The first two characters: the class.
    pub fn class(&self) -> &str {
        &self.as_str()[..2]
    }

    /// 57P01–57P03: the server is going away or not there yet (design §7).
    pub fn says_server_unavailable(&self) -> bool {
        [Self::ADMIN_SHUTDOWN, Self::CRASH_SHUTDOWN, Self::CANNOT_CONNECT_NOW].contains(self)
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
