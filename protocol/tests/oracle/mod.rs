//! A throwaway Postgres in single-user mode: no socket, no port and no process that could
//! outlive the test. Statements go in through stdin, data through files.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What the server holds for one value and what it prints for it.
pub(crate) struct Sample {
    /// The bytes on the page, padding and varlena header included.
    pub(crate) stored: Vec<u8>,
    /// What `row_to_json` prints, without the braces and the column's name.
    pub(crate) json: Vec<u8>,
}

pub(crate) struct Oracle {
    bin: PathBuf,
    /// Who runs the server where the test runs as root, which Postgres refuses.
    user: Option<&'static str>,
    base: PathBuf,
}

impl Oracle {
    /// Creates a cluster, or says why there is none.
    pub(crate) fn start(name: &str) -> Result<Oracle, String> {
        let bin = server_binaries().ok_or("no Postgres server binaries found")?;
        let base =
            std::env::temp_dir().join(format!("headwater-oracle-{name}-{}", std::process::id()));
        fs::create_dir(&base).unwrap();
        fs::set_permissions(&base, Permissions::from_mode(0o777)).unwrap();
        let user = (fs::metadata(&base).unwrap().uid() == 0).then_some("postgres");
        let oracle = Oracle { bin, user, base };
        let initdb = oracle
            .command("initdb")
            .args([
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
                "--username=postgres",
            ])
            .args(["--auth=trust", "--pgdata"])
            .arg(oracle.base.join("data"))
            .output()
            .unwrap();
        assert!(
            initdb.status.success(),
            "initdb failed: {}",
            text_of(&initdb)
        );
        oracle.run("CREATE EXTENSION pageinspect;\n\n");
        Ok(oracle)
    }

    /// Stores `inputs`, the text form of values of `sql_type`, and reads back what is
    /// on the pages, in the order of the inputs.
    pub(crate) fn ask(&self, sql_type: &str, inputs: &[String]) -> Vec<Sample> {
        let (given, answer) = (self.base.join("given"), self.base.join("answer"));
        fs::write(
            &given,
            inputs
                .iter()
                .map(|input| copy_line(input))
                .collect::<String>(),
        )
        .unwrap();
        fs::set_permissions(&given, Permissions::from_mode(0o644)).unwrap();
        self.run(&format!(
            "SET TimeZone = 'UTC';\n\n\
             CREATE TABLE oracle (v {sql_type});\n\n\
             {plain}\
             COPY oracle FROM '{given}';\n\n\
             COPY (SELECT encode(p.t_data, 'hex'), \
                          encode(convert_to(row_to_json(o)::text, 'UTF8'), 'hex') \
                   FROM generate_series(0, pg_relation_size('oracle') / 8192 - 1) AS page, \
                        heap_page_items(get_raw_page('oracle', page::int)) AS p \
                        JOIN oracle AS o ON o.ctid = p.t_ctid \
                   ORDER BY page, p.lp) TO '{answer}';\n\n\
             DROP TABLE oracle;\n\n",
            plain = if is_varlena(sql_type) {
                "ALTER TABLE oracle ALTER COLUMN v SET STORAGE PLAIN;\n\n"
            } else {
                ""
            },
            given = given.display(),
            answer = answer.display(),
        ));
        let answer = fs::read_to_string(answer).unwrap();
        let samples: Vec<Sample> = answer.lines().map(sample).collect();
        assert_eq!(samples.len(), inputs.len(), "rows of {sql_type}");
        samples
    }

    /// The rows of a query, in COPY's text format.
    pub(crate) fn rows(&self, query: &str) -> Vec<String> {
        let answer = self.base.join("answer");
        self.run(&format!("COPY ({query}) TO '{}';\n\n", answer.display()));
        let answer = fs::read_to_string(answer).unwrap();
        answer.lines().map(str::to_owned).collect()
    }

    fn run(&self, statements: &str) {
        let mut server = self
            .command("postgres")
            .args(["--single", "-j", "-c", "fsync=off", "-D"])
            .arg(self.base.join("data"))
            .arg("postgres")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = server.stdin.take().unwrap();
        stdin.write_all(statements.as_bytes()).unwrap();
        drop(stdin);
        let output = server.wait_with_output().unwrap();
        let text = text_of(&output);
        assert!(
            output.status.success() && !text.contains("ERROR:"),
            "{statements} failed: {text}"
        );
    }

    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = match self.user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
        };
        command.current_dir(&self.base);
        command
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.base);
    }
}

/// Where `initdb` is: what `PG_CONFIG` says, else `pg_config`, else Debian's newest.
fn server_binaries() -> Option<PathBuf> {
    let pg_config = std::env::var_os("PG_CONFIG").unwrap_or_else(|| "pg_config".into());
    let told = Command::new(pg_config)
        .arg("--bindir")
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    debian.sort();
    told.into_iter()
        .chain(debian.into_iter().rev())
        .find(|bin: &PathBuf| is_program(&bin.join("initdb")))
}

fn is_program(path: &Path) -> bool {
    path.is_file()
}

fn text_of(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams
        .map(|stream| String::from_utf8_lossy(stream))
        .concat()
}

/// Whether values have a header, which PLAIN leaves at four bytes.
fn is_varlena(sql_type: &str) -> bool {
    matches!(sql_type, "jsonb" | "text" | "bytea")
        || ["numeric", "range"]
            .iter()
            .any(|part| sql_type.contains(part))
}

/// One line of COPY's text format.
fn copy_line(input: &str) -> String {
    let mut line = String::with_capacity(input.len() + 1);
    for c in input.chars() {
        match c {
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c => line.push(c),
        }
    }
    line.push('\n');
    line
}

fn sample(line: &str) -> Sample {
    let (stored, row) = line.split_once('\t').unwrap();
    let row = unhex(row);
    let json = row
        .strip_prefix(br#"{"v":"#)
        .unwrap()
        .strip_suffix(b"}")
        .unwrap();
    Sample {
        stored: unhex(stored),
        json: json.to_vec(),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|start| u8::from_str_radix(&text[start..start + 2], 16).unwrap())
        .collect()
}
