use super::*;
use crate::dispatch::Delivery;

fn agent(text: &str) -> Result<AgentConfig, Vec<String>> {
    let case = Case {
        files: &[("agent.toml", text)],
        sets: &[NONE],
        ..Case::default()
    };
    case.load(load_agent)
}

#[test]
fn are_read_and_add_up() {
    let case = Case {
        files: &[
            (
                "agent.toml",
                "[[handler]]\nmodule = \"log\"\n[[handler]]\nmodule = \"probe\"\nname = \"p\"\nalpha = 1\n\
                 tables = [\"lport\"]\ntopics = [\"t1\"]\ndelivery = \"events\"",
            ),
            ("conf.d/a.toml", "[[handler]]\nmodule = \"probe\"\nbusy = 1"),
            (
                "conf.d/b.toml",
                "[[handler]]\nmodule = \"probe\"\nname = \"log\"",
            ),
        ],
        sets: &[NONE],
        ..Case::default()
    };
    let agent = case.agent();
    let names: Vec<_> = agent
        .handler
        .iter()
        .map(|h| (&*h.name, &*h.module))
        .collect();
    assert_eq!(
        names,
        [("p", "probe"), ("probe", "probe"), ("log", "probe")]
    );
    let p = &agent.handler[0];
    assert_eq!(
        (&p.tables[..], &p.topics[..]),
        (&["lport".to_owned()][..], &["t1".to_owned()][..])
    );
    assert_eq!(p.delivery, Delivery::Events);
    assert_eq!(p.settings.keys().collect::<Vec<_>>(), ["alpha"]);
    assert_eq!(agent.handler[1].delivery, Delivery::State);
    assert_eq!(
        &agent.warnings()[1..],
        [
            "handler p wants topic \"t1\", which the agent does not subscribe to",
            "handler probe: the probe is busy",
        ]
    );
}

#[test]
fn are_checked_with_everything_that_is_wrong() {
    let faults = agent(
        r#"[[handler]]
module = "probe"
alpah = 1
tabels = []
alpha = "x"
beta = 300
[[handler]]
name = "second"
topics = ["ok", ""]
delivery = "all"
[[handler]]
module = "lgo"
[[handler]]
module = "probe"
name = "probe"
alpha = -1
[[handler]]
module = "log"
name = ".."
tables = "lport"
[[handler]]
delivery = 1
"#,
    )
    .unwrap_err();
    assert_eq!(
        faults,
        [
            "agent.toml:3: handler.probe.alpah: unknown key; did you mean `alpha`?",
            "agent.toml:4: handler.probe.tabels: unknown key; did you mean `tables`?",
            "agent.toml:5: handler.probe.alpha: invalid type: found string \"x\", expected u8",
            "agent.toml:6: handler.probe.beta: invalid value signed int `300`, expected u8",
            "agent.toml:7: handler.second.module: must be set; known are exec, file, log, pipe, socket, probe",
            "agent.toml:9: handler.second.topics: \"\": a topic must not be empty",
            "agent.toml:10: handler.second.delivery: \"all\" is not state or events",
            "agent.toml:12: handler.lgo.module: \"lgo\" is not a module; did you mean `log`?",
            "agent.toml:15: handler.probe.name: \"probe\" is used twice; give each handler a name of its own",
            "agent.toml:16: handler.probe.alpha: invalid value signed int `-1`, expected u8",
            "agent.toml:19: handler.log.name: \"..\" is not 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit",
            "agent.toml:20: handler.log.tables: \"lport\" is not a list of tables, such as [\"lport\", \"lrouter\"]",
            "agent.toml:21: handler#6.module: must be set; known are exec, file, log, pipe, socket, probe",
            "agent.toml:22: handler#6.delivery: 1 is not state or events",
        ]
    );
}

#[test]
fn are_checked_wherever_they_stand() {
    let case = Case {
        files: &[
            ("agent.toml", "handler = \"log\""),
            (
                "conf.d/a.toml",
                "handler = [{module = \"exec\"}, {tables = [\"\"]}]",
            ),
        ],
        sets: &[NONE],
        ..Case::default()
    };
    assert_eq!(
        case.agent_faults(),
        [
            "agent.toml:1: handler: \"log\" is not a list of tables; write [[handler]] above each",
            "conf.d/a.toml:1: handler.exec.command: must be set",
            "conf.d/a.toml:1: handler#2.module: must be set; known are exec, file, log, pipe, socket, probe",
            "conf.d/a.toml:1: handler#2.tables: \"\" is empty; leave it out or name something",
        ]
    );
    let case = Case {
        sets: &[NONE, r#"handler=[{module="log", nmae="x"}]"#],
        ..Case::default()
    };
    assert_eq!(
        case.agent_faults(),
        ["--set: handler.log.nmae: unknown key; did you mean `name`?"]
    );
}
