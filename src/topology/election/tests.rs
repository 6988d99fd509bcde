use super::*;

const SYSTEM: u64 = 7;

fn node(name: &str, in_recovery: bool, timeline: u32) -> Candidate<'_> {
    Candidate {
        name,
        declared: None,
        disabled: false,
        can_be_asked: true,
        asked: true,
        facts: Some(Facts { in_recovery, timeline, system: Some(SYSTEM), version: 150_000 }),
        incumbent: false,
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
