//! Trunkline before the coordinator of a Citus cluster.

use std::time::{Duration, Instant};

use super::super::citus::{Citus, TABLE};
use super::super::ground::Ground;
use super::super::support::process::{Setup, Trunkline};
use super::super::support::raw::RawClient;
use super::{PATIENCE, Peer, Process, Spec};

/// With this `owner_routing`.
pub fn start(spec: &Spec, owner_routing: &str, ground: &Ground) -> Result<Peer, String> {
    let citus = ground.citus();
    let (user, password, database) = (&citus.user, &citus.password, &citus.database);
    let config = format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\nworkers = {}\n\
         [users.\"{user}\"]\npassword = '{password}'\n\
         [databases.\"{database}\"]\ncontrol_user = \"{user}\"\ncontrol_password = '{password}'\npool.size = {}\n\
         routing.catalog_interval = \"0\"\n\
         citus.owner_routing = \"{owner_routing}\"\n\
         [[databases.\"{database}\".nodes]]\nname = \"coordinator\"\nhost = \"{}\"\nport = {}\n",
        spec.workers, ground.options.pool_size, citus.host, citus.port,
    );
    let proxy = citus.without_foreign_tables(|| {
        let proxy = Setup::config(config).start();
        wait(&proxy, citus, owner_routing != "off").map(|()| proxy)
    })?;
    let what = format!("Trunkline {}, owner_routing = \"{owner_routing}\"; {}", env!("CARGO_PKG_VERSION"), citus.what);
    let (port, roots) = (proxy.port(), vec![proxy.pid()]);
    Ok(spec.peer(what, port, roots, Process::Trunkline(proxy)))
}

/// Waits until what is measured goes where it is to go.
fn wait(proxy: &Trunkline, citus: &Citus, uses_workers: bool) -> Result<(), String> {
    let mut client = RawClient::connect(proxy.port(), &citus.user, &citus.password, &citus.database);
    let found = "WHERE project_id = 1 AND id = 1";
    let statements =
        [format!("SELECT payload FROM {TABLE} {found}"), format!("UPDATE {TABLE} SET payload = '{{}}' {found}")];
    let deadline = Instant::now() + PATIENCE;
    for statement in statements {
        loop {
            let told = client.rows(&format!("EXPLAIN (ROUTE) {statement}"));
            let told: Vec<String> = told.into_iter().filter_map(|mut row| row.remove(0)).collect();
            if told[0].starts_with("worker") == uses_workers {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("{statement} does not go where it should: {told:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}
