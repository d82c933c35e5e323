//! Two publishers with one id.

use super::cluster::{Cluster, Node, rows};

/// A second publisher takes the first one's place and id, with a lower incarnation: nothing of it is
/// applied, and it is said aloud.
#[test]
fn a_lower_incarnation_is_not_believed() {
    let id = "publisher_id = \"api-1\"\n";
    let mut cluster = Cluster::running(id);
    cluster.publish("t1", 0..100, 100);
    let old = cluster.host.state_dir.clone();
    let kept = cluster.host.folder.path("kept");
    cluster.host.stop(crate::rig::PATIENCE);
    copy(&old, &kept);
    // The state is lost, so that the incarnation rises.
    std::fs::remove_dir_all(&old).unwrap();
    cluster.host.start();
    cluster.publish("t1", 100..200, 100);
    let mut node = Node::started(&[&cluster.uri()], &["t1"], "");
    node.has(&rows(200, 100));
    cluster.host.kill();
    std::fs::remove_dir_all(&old).unwrap();
    copy(&kept, &old);
    cluster.host.start();
    node.says("a message of a lower incarnation");
    assert_eq!(node.rows()["t"], rows(200, 100));
    assert!(node.stop().recovery("lower_incarnations_total") > 0);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
