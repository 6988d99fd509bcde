//! The words of the schema's closed sets.

use super::value::Words;
use crate::config::{
    CitusReads, ClientTlsMode, HbaKind, LogFormat, NodeRole, OwnerRouting, PoolMode, SslMode, TransactionReads,
};
use crate::sql::Consistency;

impl Words for PoolMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("session", Self::Session), ("transaction", Self::Transaction), ("statement", Self::Statement)];
}

impl Words for TransactionReads {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("read_only", Self::ReadOnly), ("until_write", Self::UntilWrite)];
}

impl Words for CitusReads {
    const WORDS: &'static [(&'static str, Self)] = &[("coordinator", Self::Coordinator), ("any_node", Self::AnyNode)];
}

impl Words for OwnerRouting {
    const WORDS: &'static [(&'static str, Self)] = &[("off", Self::Off), ("reads", Self::Reads), ("all", Self::All)];
}

impl Words for Option<NodeRole> {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", None), ("primary", Some(NodeRole::Primary)), ("replica", Some(NodeRole::Replica))];
}

impl Words for Consistency {
    const WORDS: &'static [(&'static str, Self)] =
        &[("eventual", Self::Eventual), ("session", Self::Session), ("table", Self::Table), ("strong", Self::Strong)];
}

impl Words for ClientTlsMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("disable", Self::Disable), ("allow", Self::Allow), ("require", Self::Require)];
}

impl Words for SslMode {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

impl Words for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Words for HbaKind {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("any", Self::Any),
        ("local", Self::Local),
        ("host", Self::Host),
        ("hostssl", Self::HostSsl),
        ("hostnossl", Self::HostNoSsl),
    ];
}

/// The method of an HBA rule, without the options that the rule carries beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// SCRAM-SHA-256.
    Scram,
    /// MD5 challenge.
    Md5,
    /// Clear-text password.
    Password,
    /// Client certificate.
    Cert,
    /// No proof.
    Trust,
    /// Refused.
    Reject,
}

impl Words for Method {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("scram-sha-256", Self::Scram),
        ("md5", Self::Md5),
        ("password", Self::Password),
        ("cert", Self::Cert),
        ("trust", Self::Trust),
        ("reject", Self::Reject),
    ];
}
