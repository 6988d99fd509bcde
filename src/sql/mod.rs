//! What a statement's text alone can tell: lexer, fingerprint, hints, classifier. Pure functions of text.
//!
//! [`analyze`] is the face: bytes in, an [`Analysis`] out, whatever the bytes. A text is cut into tokens by
//! [`Lexer`], into statements by `split`, and each statement is judged by its first words (`scanner`), by the known
//! functions that it calls (`calls`) and, if it may be a read, by sqlparser's tree of it (`query`).

mod block;
mod bodies;
mod calls;
mod carriers;
mod changes;
mod classify;
mod clock;
mod consistency;
mod cursor;
mod ddl;
mod decision;
mod explain_route;
mod fingerprint;
mod fold;
mod functions;
mod hint;
mod keywords;
mod knowledge;
mod lexer;
mod normalize;
mod path;
mod query;
mod reason;
mod relations;
mod scanner;
mod settings;
mod shard;
mod shown;
mod split;
mod sqlcommenter;
mod statement_names;
mod statements;
mod touches;
mod truth;
mod verdict;
mod writes;

pub use block::{BlockControl, BlockEnd, BlockModes, block_control, inner_end, is_rollback, leading_end};
pub use changes::{Change, ParameterText, StatementChange, changes};
pub use classify::{
    Analysis, StatementAnalysis, analyze, analyze_along, analyze_detailed, decide, decide_along, sets_unseen,
};
pub use clock::names_time;
pub use consistency::Consistency;
pub use decision::{Decision, Effects, Reason, Target};
pub use explain_route::explained_route;
pub use fingerprint::{Fingerprint, fingerprint, fingerprint_seeded};
pub use functions::{Call, FunctionLists, FunctionName, judge as judge_function};
pub use hint::{Hint, of_text as hint_of};
pub use knowledge::{Catalog, Commands, FIRST_USER_OID, Facts, Hazard, Hazards, Knowledge};
pub use lexer::{Kind, LexOptions, Lexer, Token};
pub use normalize::{MAX_NORMALIZED, normalize};
pub use path::{PathId, SearchPath, StatedPath, quoted_name};
pub use relations::judge as judge_system_relation;
pub use scanner::Isolation;
pub use settings::{OwnAction, OwnSetting, SettingChange, SettingValue, own_setting, setting_change};
pub use shard::{DistributedTable, Distribution, Format, KeyAt, KeySource, KeyType, ShardKey, ShardKeyId, TableKind};
pub use shown::{Shown, shown_setting};
pub use sqlcommenter::{SqlTags, sql_tags};
pub use statement_names::{StatementNames, prepared_body, statement_names};
pub use statements::{Pattern, PatternMistake, StatementLists};
pub use touches::{CATALOGS_SLOT, FIRST_TABLE_SLOT, MAX_SLOTS_OF_SET, SEQUENCES_SLOT, SLOTS, Slots, TouchId, Touches};
pub use truth::{truth, truth_of_constant};
pub use verdict::Verdict;
