//! docs/operations.md is run from its top to its end on one machine, like an operator would.
//!
//! A block of `sh` is run as one script, in the folder of the packages, and must succeed. One that is
//! not run has a comment before it that says why: `<!-- not run: … -->`.

use std::path::Path;

use crate::container::Container;
use crate::packages;

/// A block of commands and its first line's number.
struct Block<'a> {
    line: usize,
    text: String,
    not_run: Option<&'a str>,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    let mut reason = None;
    while let Some((number, line)) = lines.next() {
        match line {
            "```sh" => {
                let inside = lines.by_ref().map(|(_, line)| line);
                let inside: Vec<_> = inside.take_while(|line| *line != "```").collect();
                blocks.push(Block {
                    line: number + 2,
                    text: inside.join("\n"),
                    not_run: reason.take(),
                });
            }
            "" => {}
            _ => {
                let comment = line.strip_prefix("<!-- not run: ");
                reason = comment.and_then(|comment| comment.strip_suffix(" -->"));
            }
        }
    }
    blocks
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    std::fs::read_to_string(path).unwrap()
}

/// Also without packages: what the page says is not run has a reason, and it is the exception.
#[test]
fn most_of_the_page_is_run() {
    let page = page();
    let blocks = blocks(&page);
    let skipped: Vec<_> = blocks.iter().filter_map(|block| block.not_run).collect();
    assert!(
        skipped.iter().all(|reason| reason.len() > 10),
        "{skipped:?}"
    );
    assert!(blocks.len() >= 10, "{} blocks", blocks.len());
    assert!(skipped.len() * 3 < blocks.len(), "{skipped:?}");
}

#[test]
fn every_command_of_the_page_works() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::boot(&debs);
    let page = page();
    for block in blocks(&page).iter().filter(|block| block.not_run.is_none()) {
        let (status, told) = machine.run(&block.text);
        assert!(
            status == 0,
            "docs/operations.md:{}: exit status {status} of:\n{}\n{told}\n{}",
            block.line,
            block.text,
            machine.journal()
        );
    }
}
