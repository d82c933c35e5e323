use super::*;
use crate::security::grants::{Grant, Judgement};

const CURVE: &str = "security=curve";

#[test]
fn the_tables_of_several_files_add_up_and_a_list_replaces_them() {
    let table =
        |node: &str, topic: &str| format!("[[grant]]\nnodes = [{node:?}]\ntopics = [{topic:?}]\n");
    let (first, second) = (table("n1", "t1"), table("n1", "lab-*"));
    let files = [
        ("publisher.toml", first.as_str()),
        ("conf.d/a.toml", second.as_str()),
    ];
    let case = Case {
        files: &files,
        sets: &[CURVE],
        ..Case::default()
    };
    let config = case.load(load_publisher).unwrap();
    assert!(config.peer_rules().guarded);
    let judge = |config: &PublisherConfig, prefix: &[u8]| config.grants().judge(Some("n1"), prefix);
    assert_eq!(judge(&config, b"t1\0"), Judgement::Granted);
    assert_eq!(judge(&config, b"lab-7\0"), Judgement::Granted);
    assert_eq!(judge(&config, b"t2\0"), Judgement::Forbidden);
    let case = Case {
        files: &files,
        sets: &[CURVE, r#"grant=[{ nodes = ["*"], topics = ["t2"] }]"#],
        ..Case::default()
    };
    let config = case.load(load_publisher).unwrap();
    assert_eq!(judge(&config, b"t1\0"), Judgement::Forbidden);
    assert_eq!(judge(&config, b"t2\0"), Judgement::Granted);
    assert_eq!(
        config.grant,
        [Grant::new(vec!["*".into()], vec!["t2".into()])]
    );
    let none = Case {
        sets: &[CURVE],
        ..Case::default()
    };
    let config = none.load(load_publisher).unwrap();
    assert!(config.grants().is_open() && !config.peer_rules().guarded);
}

#[test]
fn everything_that_is_wrong_is_told() {
    let text = r#"[[grant]]
nodes = ["n1", "../n2", "", 7]
topics = "t1"
[[grant]]
nodes = []
topics = ["t*1", "\u0001hello", "*"]
"#;
    let case = Case {
        files: &[("publisher.toml", text)],
        sets: &[CURVE],
        ..Case::default()
    };
    let names = r#"a list of names, such as ["a", "b-*"]"#;
    assert_eq!(
        case.publisher_faults(),
        [
            r#"publisher.toml:2: grant#1.nodes: "../n2" is no name of a node: letters, digits, - _ and ."#.to_owned(),
            r#"publisher.toml:2: grant#1.nodes: "" is empty"#.into(),
            "publisher.toml:2: grant#1.nodes: 7 is not a text; write it in quotes".into(),
            format!(r#"publisher.toml:3: grant#1.topics: "t1" is not {names}"#),
            format!("publisher.toml:5: grant#2.nodes: a list is not {names}"),
            r#"publisher.toml:6: grant#2.topics: "t*1" has * elsewhere than at its end"#.into(),
            r#"publisher.toml:6: grant#2.topics: "\u{1}hello" topics that begin with byte 0x01 are reserved"#.into(),
        ]
    );
    let case = Case {
        files: &[(
            "publisher.toml",
            "[[grant]]\nnodes = [\"*\"]\ntopics = [\"*\"]\n",
        )],
        sets: &[
            CURVE,
            "publisher_transport=ipc",
            "publisher_bind_address=/run/x",
        ],
        ..Case::default()
    };
    assert_eq!(
        case.publisher_faults(),
        ["publisher.toml:1: grant: only on tcp do nodes prove who they are"]
    );
}

/// Otherwise nobody would notice that it is not there.
#[test]
fn what_is_no_list_of_tables_is_told_where_another_file_has_one() {
    let good = "[[grant]]\nnodes = [\"*\"]\ntopics = [\"t1\"]\n";
    for bad in [
        "[grant]\nnodes = [\"n1\"]\ntopics = [\"t2\"]\n",
        "grant = 7\n",
    ] {
        let case = Case {
            files: &[("publisher.toml", bad), ("conf.d/a.toml", good)],
            sets: &[CURVE],
            ..Case::default()
        };
        let faults = case.publisher_faults();
        let wanted = "a list of tables; write [[grant]] above each";
        assert!(
            faults.len() == 1
                && faults[0].starts_with("publisher.toml:1: grant: ")
                && faults[0].ends_with(wanted),
            "{faults:?}"
        );
    }
}
