use super::*;

fn elect(candidates: &[Candidate<'_>], system: Option<u64>) -> Verdict {
    super::elect(candidates, system, &Leadership::Open)
}

const SYSTEM: u64 = 7;

fn node(name: &str, in_recovery: bool, timeline: u32) -> Candidate<'_> {
    Candidate {
        name,
        is_configured: true,
        declared: None,
        disabled: false,
        can_be_asked: true,
        asked: true,
        facts: Some(Facts { in_recovery, timeline, system: Some(SYSTEM), version: 150_000 }),
        told: None,
        incumbent: false,
        has_led: false,
    }
}

fn silent(name: &str, declared: Option<NodeRole>) -> Candidate<'_> {
    Candidate { declared, facts: None, ..node(name, false, 0) }
}

fn primary(candidates: &[Candidate<'_>]) -> Option<usize> {
    elect(candidates, None).standings.iter().position(|standing| *standing == Standing::Primary)
}

fn refused(verdict: &Verdict, index: usize) -> bool {
    matches!(verdict.standings[index], Standing::Refused(_))
}

#[test]
fn one_takes_writes_and_the_others_read() {
    let verdict = elect(&[node("a", true, 1), node("b", false, 1)], None);
    assert_eq!(verdict.standings, [Standing::Replica, Standing::Primary]);
    assert_eq!((verdict.system, verdict.why.as_str()), (Some(SYSTEM), ""));
}

#[test]
fn the_newer_timeline_wins_and_the_older_one_is_refused_trap_87() {
    let verdict = elect(&[Candidate { incumbent: true, ..node("a", false, 1) }, node("b", false, 2)], Some(SYSTEM));
    assert_eq!(verdict.standings[1], Standing::Primary);
    assert!(refused(&verdict, 0));
}

#[test]
fn two_on_one_timeline_are_both_refused_unless_one_is_declared_trap_87() {
    let both = [node("a", false, 1), node("b", false, 1)];
    let verdict = elect(&both, None);
    assert!(refused(&verdict, 0) && refused(&verdict, 1), "{verdict:?}");
    assert!(verdict.why.contains("a and b both take writes on timeline 1"), "{}", verdict.why);
    let [a, b] = both;
    let verdict = elect(&[a, Candidate { declared: Some(NodeRole::Primary), ..b }], None);
    assert!(refused(&verdict, 0));
    assert_eq!((&verdict.standings[1], verdict.why.as_str()), (&Standing::Primary, ""));
}

#[test]
fn a_declaration_does_not_outweigh_what_another_one_has_taken_trap_87() {
    let declared = || Candidate { declared: Some(NodeRole::Primary), ..node("a", false, 2) };
    let led = Candidate { has_led: true, ..node("b", false, 2) };
    // Promoted each by itself: whatever "b" has acknowledged, "a" has not.
    let verdict = elect(&[declared(), led], Some(SYSTEM));
    assert!(refused(&verdict, 0) && refused(&verdict, 1), "{verdict:?}");
    assert!(verdict.why.contains("a and b both take writes"), "{}", verdict.why);
    let both = [Candidate { has_led: true, ..declared() }, node("b", false, 2)];
    assert_eq!(elect(&both, Some(SYSTEM)).standings[0], Standing::Primary);
}

#[test]
fn an_old_primary_does_not_come_back_while_a_standby_knows_better_trap_87() {
    let verdict = elect(&[node("a", false, 1), node("b", true, 2)], None);
    assert!(refused(&verdict, 0));
    assert!(verdict.why.contains("timeline 2"), "{}", verdict.why);
    // Taken out by an administrator, the standby has no say.
    assert_eq!(primary(&[node("a", false, 1), Candidate { disabled: true, ..node("b", true, 2) }]), Some(0));
}

#[test]
fn nobody_takes_writes_before_all_were_asked_save_who_did_before_trap_85() {
    let unasked = || Candidate { asked: false, ..silent("b", None) };
    let verdict = elect(&[node("a", false, 1), unasked()], None);
    assert_eq!(verdict.standings, [Standing::Unknown, Standing::Unknown]);
    assert!(verdict.why.contains("still being asked"));
    assert_eq!(primary(&[Candidate { incumbent: true, ..node("a", false, 1) }, unasked()]), Some(0));
    // Asked without success: it can be no primary that anybody reaches.
    assert_eq!(primary(&[node("a", false, 1), silent("b", None)]), Some(0));
}

#[test]
fn a_declaration_is_an_expectation() {
    let declared = |role, candidate: Candidate<'static>| Candidate { declared: Some(role), ..candidate };
    let demoted = declared(NodeRole::Primary, node("a", true, 2));
    let promoted = declared(NodeRole::Replica, node("b", false, 2));
    assert_eq!(elect(&[demoted, promoted], None).standings, [Standing::Replica, Standing::Primary]);
    // Where nobody can ask, it is all there is.
    let blind = |name, role| Candidate { can_be_asked: false, asked: false, ..silent(name, Some(role)) };
    let verdict = elect(&[blind("a", NodeRole::Primary), blind("b", NodeRole::Replica)], None);
    assert_eq!(verdict.standings, [Standing::Primary, Standing::Replica]);
}

#[test]
fn a_node_of_another_cluster_takes_nothing() {
    let stranger = |name| {
        let facts = Facts { in_recovery: false, timeline: 9, system: Some(8), version: 150_000 };
        Candidate { facts: Some(facts), ..node(name, false, 9) }
    };
    let verdict = elect(&[stranger("x"), node("a", false, 1), node("b", true, 1)], None);
    assert!(refused(&verdict, 0));
    assert_eq!(verdict.standings[1], Standing::Primary);
    // What the cluster was before counts more than numbers, and a declaration more than nothing.
    let verdict = elect(&[stranger("x"), stranger("y"), node("a", false, 1)], Some(SYSTEM));
    assert_eq!(verdict.standings[2], Standing::Primary);
    let declared = Candidate { declared: Some(NodeRole::Primary), ..stranger("x") };
    assert_eq!(elect(&[declared, node("a", false, 1)], None).standings[0], Standing::Primary);
    let verdict = elect(&[stranger("x"), node("a", false, 1)], None);
    assert!(refused(&verdict, 0) && refused(&verdict, 1), "{verdict:?}");
}

#[test]
fn nodes_that_were_found_do_not_say_which_cluster_it_is() {
    let found = |name| Candidate { is_configured: false, ..node(name, true, 1) };
    let configured = || Candidate {
        facts: Some(Facts { in_recovery: false, timeline: 1, system: Some(8), version: 150_000 }),
        ..node("a", false, 1)
    };
    let verdict = elect(&[configured(), found("b"), found("c")], None);
    assert_eq!((verdict.system, &verdict.standings[0]), (Some(8), &Standing::Primary));
    assert!(refused(&verdict, 1) && refused(&verdict, 2));
    // But they know which it was: a server that was made anew at a configured place is a stranger.
    let verdict = elect(&[configured(), found("b"), found("c")], Some(SYSTEM));
    assert!(refused(&verdict, 0) && verdict.standings[1] == Standing::Replica);
    let verdict = elect(&[silent("a", None), found("b")], None);
    assert_eq!(verdict.system, Some(SYSTEM));
}

#[test]
fn a_disabled_primary_is_named() {
    let verdict = elect(&[Candidate { disabled: true, ..node("a", false, 1) }, node("b", true, 1)], Some(SYSTEM));
    assert!(verdict.why.starts_with("a is disabled"), "{}", verdict.why);
    assert_eq!(verdict.standings[1], Standing::Replica);
}

#[test]
fn the_first_to_answer_does_not_say_which_cluster_it_is() {
    let stranger = |asked| Candidate {
        facts: Some(Facts { in_recovery: false, timeline: 1, system: Some(SYSTEM + 1), version: 150_000 }),
        ..Candidate { asked, ..node("c", false, 1) }
    };
    let unasked = |name| Candidate { asked: false, ..silent(name, None) };
    let verdict = elect(&[unasked("a"), unasked("b"), stranger(true)], None);
    assert_eq!((verdict.system, verdict.why.as_str()), (None, ASKING));
    assert!(!verdict.standings.contains(&Standing::Primary), "{verdict:?}");
    let verdict = elect(&[node("a", false, 1), unasked("b"), stranger(true)], None);
    assert_eq!((verdict.system, verdict.why.as_str()), (None, ASKING));
    assert!(!refused(&verdict, 0) && !verdict.standings.contains(&Standing::Primary), "{verdict:?}");
    let verdict = elect(&[node("a", false, 1), node("b", true, 1), stranger(true)], None);
    assert_eq!((verdict.system, &verdict.standings[0]), (Some(SYSTEM), &Standing::Primary));
    assert!(refused(&verdict, 2));
}

fn told(takes_writes: bool) -> Told {
    let role = if takes_writes { "leader" } else { "replica" };
    Told { role: role.to_owned(), takes_writes, timeline: 5, spared: false }
}

fn held(node: Option<&str>) -> Leadership {
    Leadership::Held { name: "member".to_owned(), node: node.map(str::to_owned) }
}

#[test]
fn whom_patroni_names_leads_and_nobody_else() {
    let split = [node("a", false, 1), node("b", false, 2), node("c", true, 1)];
    let verdict = super::elect(&split, None, &held(Some("a")));
    assert_eq!((&verdict.standings[0], verdict.why.as_str()), (&Standing::Primary, ""), "whatever the timelines");
    assert!(refused(&verdict, 1));
    // What a server says of itself stays decisive.
    let verdict = super::elect(&split, None, &held(Some("c")));
    assert!(refused(&verdict, 0) && refused(&verdict, 1) && verdict.standings[2] == Standing::Replica);
    assert_eq!(verdict.why, "Patroni names member as the leader, which is still in recovery");
    let verdict = super::elect(&split, None, &held(None));
    assert!(refused(&verdict, 0) && refused(&verdict, 1));
    assert_eq!(verdict.why, "Patroni names member as the leader, which is no node of this database");
    // Followers of another one have seen a newer timeline.
    let verdict = super::elect(&[node("a", false, 1), node("b", true, 2)], None, &held(Some("a")));
    assert!(refused(&verdict, 0), "{verdict:?}");
    // It need not be waited for the others.
    let others = [node("a", false, 1), Candidate { asked: false, facts: None, ..node("b", true, 1) }];
    assert_eq!(super::elect(&others, None, &held(Some("a"))).standings[0], Standing::Primary);
}

#[test]
fn before_patroni_was_heard_nobody_new_leads() {
    let both = [node("a", false, 1), node("b", true, 1)];
    let verdict = super::elect(&both, None, &Leadership::Asking);
    assert_eq!((&verdict.standings[0], verdict.why.as_str()), (&Standing::Unknown, ASKING));
    let [a, b] = both;
    let verdict = super::elect(&[Candidate { incumbent: true, ..a }, b], None, &Leadership::Asking);
    assert_eq!(verdict.standings[0], Standing::Primary, "who took writes goes on");
}

#[test]
fn patroni_tells_what_cannot_be_asked_and_which_of_two_is_right() {
    let (leads, follows) = (told(true), told(false));
    let blind = |name, role, told| Candidate { can_be_asked: false, asked: false, told, ..silent(name, role) };
    let nodes =
        [blind("a", Some(NodeRole::Primary), Some(&follows)), blind("b", None, Some(&leads)), blind("c", None, None)];
    let verdict = super::elect(&nodes, None, &Leadership::Open);
    assert_eq!(verdict.standings, [Standing::Replica, Standing::Primary, Standing::Unknown]);
    assert_eq!(nodes[1].timeline(), 5);
    // In maintenance.
    let [a, b] = [node("a", false, 1), node("b", false, 1)];
    let declared = Candidate { declared: Some(NodeRole::Primary), told: Some(&follows), ..a };
    let verdict = super::elect(&[declared, Candidate { told: Some(&leads), ..b }], None, &Leadership::Open);
    assert!(refused(&verdict, 0) && verdict.standings[1] == Standing::Primary, "{verdict:?}");
}
