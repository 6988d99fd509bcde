//! Commands carried out, behind pgwire's handlers of both query protocols.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{Sink, SinkExt, stream};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{FieldFormat, FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;

use super::command::{Command, DEALLOCATE_ALL, Statements};
use super::rights::Rights;
use super::select;
use super::tables::{View, route};
use super::value::{self, Rows, Value};
use super::{Console, answer, help};
use crate::session::Client;
use crate::wire::{ErrorNotice, SqlState};

/// Most commands in one text: their answers are kept in memory until the last of them is made.
const MOST_STATEMENTS: usize = 16;
/// After so many rows a text may have no further command, for the same reason.
const MANY_ROWS: usize = 10_000;

/// Commands of one client.
pub struct Handler {
    pub(super) console: Arc<Console>,
    pub(super) user: String,
    pub(super) client: Arc<Client>,
}

impl Handler {
    /// For a user who has logged in.
    pub fn new(console: Arc<Console>, client: Arc<Client>) -> Self {
        Self { console, user: client.user.clone(), client }
    }

    /// Carries a command out, if the user may. `told` counts rows.
    async fn run(
        &self,
        command: &Command,
        parameters: &[Value],
        format: Option<&Format>,
        told: &mut usize,
    ) -> PgWireResult<Response> {
        let config = self.console.ctx.config.load_full();
        Rights::of(&self.user, &config.admin).check(command.needs()).map_err(answer::error)?;
        let rows = match command {
            Command::Table(table) => {
                let table = *table;
                self.look(move |view| Ok((table.rows)(view))).await?
            }
            Command::Select(select) => {
                let (select, parameters) = (select.clone(), parameters.to_vec());
                self.look(move |view| select::run(&select, view, &parameters)).await?
            }
            Command::Setting(setting) => vec![vec![setting.value.into()]],
            Command::Route { sql, database } => {
                let parameter = match parameters.first() {
                    Some(Value::Text(text)) => Some(text.as_str()),
                    _ => None,
                };
                let sql = sql.as_deref().or(parameter).unwrap_or_default();
                route::rows(&self.console.ctx, sql, database.as_deref()).map_err(answer::error)?
            }
            Command::Help => return Ok(Response::Execution(Tag::new("SHOW"))),
            Command::Begin => return Ok(Response::TransactionStart(Tag::new("BEGIN"))),
            Command::End(tag) => return Ok(Response::TransactionEnd(Tag::new(tag))),
            Command::Deallocate(None) => return Ok(Response::Execution(Tag::new(DEALLOCATE_ALL))),
            Command::Deallocate(Some(_)) => return Ok(Response::Execution(Tag::new("DEALLOCATE"))),
            Command::Accepted(tag) => return Ok(Response::Execution(Tag::new(tag))),
            Command::Act(action) => {
                self.act(action).await.map_err(answer::error)?;
                return Ok(Response::Execution(Tag::new(&action.tag())));
            }
        };
        *told += rows.len();
        respond(command, &rows, format)
    }

    /// What a look at everything tells. With many clients that is a lot of work, and a text may ask for more of it: it is not done on the
    /// worker, where sessions would wait.
    async fn look(
        &self,
        look: impl FnOnce(&View<'_>) -> Result<Rows, ErrorNotice> + Send + 'static,
    ) -> PgWireResult<Rows> {
        let console = self.console.clone();
        match tokio::task::spawn_blocking(move || look(&View::new(&console.ctx))).await {
            Ok(rows) => rows.map_err(answer::error),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(PgWireError::IoError(std::io::Error::other(error))),
            },
        }
    }
}

fn respond(command: &Command, rows: &Rows, format: Option<&Format>) -> PgWireResult<Response> {
    let schema = Arc::new(value::schema(&command.columns(), format)?);
    let rows = value::encode(&schema, rows);
    let mut response = QueryResponse::new(schema, stream::iter(rows));
    // As from PostgreSQL, with the number of rows.
    response.set_command_tag(if matches!(command, Command::Select(_)) { "SELECT" } else { "SHOW" });
    Ok(Response::Query(response))
}

/// What only the client itself can do: `SHOW HELP` sends a notice before the tag, `DEALLOCATE` forgets a statement.
async fn prelude<C>(client: &mut C, command: &Command) -> PgWireResult<()>
where
    C: ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send,
    C::PortalStore: PortalStore,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    match command {
        Command::Help => {
            let notice = answer::info(help::notice());
            client.feed(PgWireBackendMessage::NoticeResponse(notice.into())).await?;
        }
        Command::Deallocate(Some(name)) => {
            if client.portal_store().get_statement(name).is_none() {
                return Err(PgWireError::StatementNotFound(name.clone()));
            }
            client.portal_store().rm_statement(name);
        }
        _ => {}
    }
    Ok(())
}

#[async_trait]
impl SimpleQueryHandler for Handler {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statements = Statements::of(query).map_err(answer::error)?;
        if statements.len() == 0 {
            return Ok(vec![Response::EmptyQuery]);
        }
        if statements.len() > MOST_STATEMENTS {
            let message = format!("more than {MOST_STATEMENTS} commands in one text");
            return Err(answer::error(ErrorNotice::error(SqlState::PROGRAM_LIMIT_EXCEEDED, message)));
        }
        let (mut responses, mut told) = (Vec::new(), 0);
        // The first failure ends the text, and what came before it is answered.
        for command in statements.commands() {
            let outcome = match command.map_err(answer::error) {
                Ok(command) if !command.parameters().is_empty() => Err(no_parameter(command.parameters().len(), 0)),
                Ok(_) if told > MANY_ROWS => Err(too_many_rows()),
                Ok(command) => match prelude(client, &command).await {
                    Ok(()) => self.run(&command, &[], None, &mut told).await,
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            match outcome {
                Ok(response) => responses.push(response),
                Err(error) => {
                    responses.push(Response::Error(Box::new(error.into())));
                    break;
                }
            }
        }
        Ok(responses)
    }
}

fn too_many_rows() -> PgWireError {
    let message = format!("the answers to what comes before have more than {MANY_ROWS} rows");
    let notice = ErrorNotice::error(SqlState::PROGRAM_LIMIT_EXCEEDED, message);
    answer::error(notice.hint("Send the commands one after the other."))
}

fn no_parameter(wanted: usize, given: usize) -> PgWireError {
    let message = format!("the statement needs {wanted} parameters, and {given} were given");
    answer::error(ErrorNotice::error(SqlState::PROTOCOL_VIOLATION, message))
}

/// Understands the text of a Parse.
#[derive(Debug)]
pub struct Parser;

#[async_trait]
impl QueryParser for Parser {
    type Statement = Command;

    async fn parse_sql<C>(&self, _: &C, sql: &str, _: &[Option<Type>]) -> PgWireResult<Option<Command>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let statements = Statements::of(sql).map_err(answer::error)?;
        if statements.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(answer::error(ErrorNotice::error(SqlState::SYNTAX_ERROR, message)));
        }
        statements.commands().next().transpose().map_err(answer::error)
    }

    fn get_parameter_types(&self, command: &Command) -> PgWireResult<Vec<Type>> {
        Ok(command.parameters().iter().map(|kind| kind.datatype().0).collect())
    }

    fn get_result_schema(&self, command: &Command, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        let columns = command.columns();
        if columns.is_empty() { Ok(Vec::new()) } else { value::schema(&columns, format) }
    }
}

#[async_trait]
impl ExtendedQueryHandler for Handler {
    type Statement = Command;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        Arc::new(Parser)
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Command>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Command>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let command = &portal.statement.statement;
        let kinds = command.parameters();
        if portal.parameters.len() != kinds.len() {
            return Err(no_parameter(kinds.len(), portal.parameters.len()));
        }
        let mut parameters = Vec::with_capacity(kinds.len());
        for (index, (bytes, kind)) in portal.parameters.iter().zip(kinds).enumerate() {
            let binary = portal.parameter_format.format_for(index) == FieldFormat::Binary;
            parameters.push(select::parameter(bytes.as_deref(), binary, *kind).map_err(answer::error)?);
        }
        prelude(client, command).await?;
        self.run(command, &parameters, Some(&portal.result_column_format), &mut 0).await
    }
}
