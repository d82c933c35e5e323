//! The same rows in etcd, and one range read of all of them: what a compute node does there to be
//! given everything. By its HTTP gateway, which speaks base64 in JSON.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::rig::{TABLE, free_port, key, value, wait_for};

/// Most operations in one transaction.
const PUTS: u64 = 128;

struct Etcd {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Etcd {
    fn start() -> std::io::Result<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (port, peers) = (free_port(), free_port());
        let [clients, peers] = [port, peers].map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(folder.path().join("data"));
        command.args(["--listen-client-urls", &clients]);
        command.args(["--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers]);
        command.args(["--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let etcd = Etcd {
            child: command.spawn()?,
            port,
            _folder: folder,
        };
        wait_for("etcd is ready", || {
            etcd.post("/v3/kv/range", "{\"key\":\"eA==\"}").is_ok()
        });
        Ok(etcd)
    }

    /// What it answers. HTTP/1.0, so that it comes in one piece and ends with the connection.
    fn post(&self, path: &str, body: &str) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        match answer.get(9..12) {
            Some(b"200") => Ok(answer),
            _ => Err(std::io::Error::other(
                String::from_utf8_lossy(&answer).into_owned(),
            )),
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run(rows: u64) {
    let etcd = match Etcd::start() {
        Ok(etcd) => etcd,
        Err(error) => {
            println!(
                "etcd, for comparison: SKIPPED, it cannot be started ({error}); apt-get install etcd-server"
            );
            return;
        }
    };
    let mut next = 0;
    while next < rows {
        let upto = (next + PUTS).min(rows);
        let puts: Vec<String> = (next..upto)
            .map(|number| {
                let key = base64(format!("/{TABLE}/{}", key(number)).as_bytes());
                let value = base64(value(number).as_bytes());
                format!("{{\"requestPut\":{{\"key\":\"{key}\",\"value\":\"{value}\"}}}}")
            })
            .collect();
        etcd.post(
            "/v3/kv/txn",
            &format!("{{\"success\":[{}]}}", puts.join(",")),
        )
        .unwrap();
        next = upto;
    }
    let (from, to) = (
        base64(format!("/{TABLE}/").as_bytes()),
        base64(format!("/{TABLE}0").as_bytes()),
    );
    let range = format!("{{\"key\":\"{from}\",\"range_end\":\"{to}\"}}");
    let begun = Instant::now();
    let answer = etcd.post("/v3/kv/range", &range).unwrap();
    let took = begun.elapsed();
    let count = format!("\"count\":\"{rows}\"");
    assert!(
        answer.ends_with(format!("{count}}}").as_bytes()),
        "not all rows are there"
    );
    println!(
        "etcd, a range read of the same {rows} rows: {} ms, {:.1} MB on the wire, not yet decoded",
        took.as_millis(),
        answer.len() as f64 / 1e6
    );
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = (0..3).fold(0, |sum, at| {
            sum << 8 | u32::from(*group.get(at).unwrap_or(&0))
        });
        for place in 0..4 {
            match place <= group.len() {
                true => text.push(char::from(
                    DIGITS[(number >> (18 - 6 * place)) as usize & 63],
                )),
                false => text.push('='),
            }
        }
    }
    text
}
