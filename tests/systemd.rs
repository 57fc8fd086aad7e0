//! The unit as systemd judges it, and the package on a real systemd, booted in a container on an overlay of this host.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

use crate::harness::{Client, Ran, holds_within, millis, seconds};

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");

/// Says why a test proves nothing here, past the capture of what tests print.
fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {}: {why}", module_path!());
}

fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin"].map(PathBuf::from);
    let mut folders = std::env::split_paths(&path)
        .chain(system)
        .chain([target().join("tools/bin")]);
    folders.find_map(|folder| Some(folder.join(program)).filter(|path| path.is_file()))
}

/// Where cargo builds.
fn target() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_tollgate"));
    program.ancestors().nth(2).unwrap().to_owned()
}

// ---- the files ---------------------------------------------------------------------------------

/// The units in a folder of their own, with a program where they expect one.
fn units() -> TempDir {
    let dir = TempDir::new().unwrap();
    for name in ["tollgate.service", "tollgate.socket"] {
        let text = fs::read_to_string(format!("{UNITS}/{name}")).unwrap();
        let text = text.replace("/usr/bin/tollgate", env!("CARGO_BIN_EXE_tollgate"));
        // The page is installed beside the program.
        let text = text.replace("Documentation=man:tollgate(1)\n", "");
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let Some(analyze) = found("systemd-analyze") else {
        return skip("there is no systemd-analyze");
    };
    let dir = units();
    for name in ["tollgate.service", "tollgate.socket"] {
        let mut command = Command::new(&analyze);
        command
            .args(["verify", "--recursive-errors=no"])
            .arg(dir.path().join(name));
        let ran = Ran::of(&mut command).expect(0);
        assert_eq!(ran.all().trim(), "", "{name}");
    }
}

#[test]
fn the_sandbox_leaves_an_exposure_below_two() {
    let Some(analyze) = found("systemd-analyze") else {
        return skip("there is no systemd-analyze");
    };
    let dir = units();
    let mut command = Command::new(analyze);
    command
        .args(["security", "--offline=true", "--threshold=19", "--no-pager"])
        .arg(dir.path().join("tollgate.service"));
    Ran::of(&mut command).expect(0);
}

#[test]
fn every_line_of_the_service_has_its_reason_above_it() {
    let text = fs::read_to_string(format!("{UNITS}/tollgate.service")).unwrap();
    let mut explained = false;
    for line in text.lines() {
        let setting = line.contains('=') && !line.starts_with("# ");
        assert!(
            !setting
                || explained
                || line.starts_with("Description=")
                || line.starts_with("Documentation="),
            "without a reason: {line}"
        );
        explained = line.starts_with("# ") || (explained && setting);
    }
}

// ---- a booted host -----------------------------------------------------------------------------

/// A host of its own: systemd as process 1 on an overlay of this one's files, with a network that nobody else is in.
struct Host {
    nspawn: Child,
    init: i32,
    root: PathBuf,
    _dir: TempDir,
}

impl Host {
    fn boot() -> Result<Self, String> {
        if !geteuid().is_root() {
            return Err("booting a container takes root".into());
        }
        let nspawn = found("systemd-nspawn").ok_or("there is no systemd-nspawn")?;
        let dir = tempfile::Builder::new().prefix("tgboot").tempdir().unwrap();
        let [root, upper, work] = ["root", "upper", "work"].map(|name| dir.path().join(name));
        for folder in [&root, &upper, &work] {
            fs::create_dir(folder).unwrap();
        }
        let layers = format!(
            "lowerdir=/,upperdir={},workdir={}",
            upper.display(),
            work.display()
        );
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "overlay", "overlay", "-o", &layers])
            .arg(&root);
        let mounted = Ran::of(&mut mount);
        if mounted.code != 0 {
            return Err(format!(
                "no overlay of / can be mounted: {}",
                mounted.all().trim()
            ));
        }
        // What would make it this host's twin, and what forbids packages to start services.
        let _ = fs::remove_file(root.join("usr/sbin/policy-rc.d"));
        fs::write(root.join("etc/machine-id"), "").unwrap();
        // What is thrown away need not reach the disk, for which other tests wait as well.
        fs::write(root.join("etc/dpkg/dpkg.cfg.d/fast"), "force-unsafe-io\n").unwrap();
        let console = fs::File::create(dir.path().join("console")).unwrap();
        let nspawn = Command::new(nspawn)
            .args([
                "--quiet",
                "--private-network",
                "--register=no",
                "--keep-unit",
                "--boot",
            ])
            .arg(format!("--machine=tg{}", std::process::id()))
            .arg("--console=pipe")
            .arg(format!("--directory={}", root.display()))
            // No server of this host is started but what a test asks for.
            .args(["systemd.unit=basic.target", "systemd.mask=timers.target"])
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console)
            .spawn()
            .unwrap();
        let mut host = Self {
            nspawn,
            init: 0,
            root,
            _dir: dir,
        };
        let running = holds_within(seconds(30), || {
            host.init = host.first_child().unwrap_or(0);
            host.init > 0 && {
                let state = host.run("systemctl is-system-running").stdout;
                ["running", "degraded"].contains(&state.trim())
            }
        });
        if running {
            return Ok(host);
        }
        let console = fs::read_to_string(host._dir.path().join("console")).unwrap_or_default();
        Err(format!("systemd does not boot in a container: {console}"))
    }

    fn first_child(&self) -> Option<i32> {
        let pid = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Runs a script there.
    fn run(&self, script: &str) -> Ran {
        let mut command = Command::new("nsenter");
        command
            .arg("-t")
            .arg(self.init.to_string())
            .args([
                "-m",
                "-u",
                "-i",
                "-n",
                "-p",
                "--",
                "env",
                "-i",
                "HOME=/root",
                "NO_COLOR=1",
            ])
            .args([
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
                "DEBIAN_FRONTEND=noninteractive",
            ])
            .args(["SYSTEMD_PAGER=", "sh", "-c", script])
            .stdin(Stdio::null());
        Ran::of(&mut command)
    }

    /// Runs what must succeed, and gives what it prints.
    #[track_caller]
    fn does(&self, script: &str) -> String {
        let ran = self.run(script);
        assert_eq!(ran.code, 0, "{script}: {ran:#?}\n{}", self.journal());
        ran.stdout
    }

    /// Runs what must fail, and gives all it says.
    #[track_caller]
    fn refuses(&self, script: &str) -> String {
        let ran = self.run(script);
        assert_ne!(ran.code, 0, "{script}: {ran:#?}");
        ran.all()
    }

    fn journal(&self) -> String {
        self.run("journalctl --no-pager -n 60 -o cat -u tollgate")
            .stdout
    }

    /// A property of the service.
    fn show(&self, property: &str) -> String {
        let script = format!("systemctl show --value --property={property} tollgate");
        self.does(&script).trim().to_owned()
    }

    #[track_caller]
    fn waits_for(&self, what: &str, script: &str) {
        let good = holds_within(seconds(20), || self.run(script).code == 0);
        assert!(good, "{what}: {script}\n{}", self.journal());
    }

    #[track_caller]
    fn serves(&self) {
        let answer = self.does("curl -sS --max-time 5 http://127.0.0.1:8080/health");
        assert_eq!(answer, "{\"status\":\"ok\"}");
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Lets this thread send in that host's network, and keeps it there.
    fn enter_network(&self) {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.init)).unwrap();
        setns(network, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Requests, on kept and on fresh connections, for as long as `action` takes. Returns how many were answered; one
    /// that was not fails the test.
    fn under_load(&self, action: impl FnOnce()) -> usize {
        let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
        let client = Client::to(([127, 0, 0, 1], 8080).into());
        let going = || !stop.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    self.enter_network();
                    let mut kept = client.connect();
                    while going() {
                        let response = kept.get("/health").try_send();
                        let response = response.unwrap_or_else(|error| panic!("kept: {error}"));
                        if response.expect(200).header("connection") == Some("close") {
                            kept = client.connect();
                        }
                        served.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(millis(1));
                    }
                });
            }
            scope.spawn(|| {
                self.enter_network();
                while going() {
                    let response = client
                        .get("/health")
                        .header("Connection", "close")
                        .try_send();
                    response
                        .unwrap_or_else(|error| panic!("fresh: {error}"))
                        .expect(200);
                    served.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(millis(1));
                }
            });
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(action));
            stop.store(true, Ordering::Relaxed);
            done.unwrap();
        });
        served.into_inner()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.init > 0 {
            let _ = kill(Pid::from_raw(self.init), Signal::SIGKILL);
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        let unmounted = || {
            Command::new("umount")
                .arg(&self.root)
                .status()
                .is_ok_and(|s| s.success())
        };
        holds_within(seconds(5), unmounted);
    }
}

/// The package of this build, and the same once more under a higher version.
fn packages(into: &Path) -> Result<(), String> {
    found("cargo-deb").ok_or("there is no cargo-deb; `make deb` installs it")?;
    let mut make = Command::new("make");
    make.args(["deb", "DEB_PROFILE=dev"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", target())
        .env_remove("MAKEFLAGS");
    let made = Ran::of(&mut make).expect(0);
    let path = made
        .stdout
        .lines()
        .rev()
        .find(|line| line.ends_with(".deb"));
    let path = path.unwrap_or_else(|| panic!("no package: {made:#?}"));
    fs::copy(path, into.join("first.deb")).unwrap();
    let tree = TempDir::new().unwrap();
    let script = format!(
        "cd {tree} && dpkg-deb -R {first} t && sed -i 's/^Version: .*/&.1/' t/DEBIAN/control && \
         dpkg-deb -Znone -b t {second}",
        tree = tree.path().display(),
        first = into.join("first.deb").display(),
        second = into.join("second.deb").display(),
    );
    Ran::of(Command::new("sh").args(["-c", &script])).expect(0);
    Ok(())
}

const CONFIG: &str = "/etc/tollgate/tollgate.toml";

#[test]
fn the_package_lives_a_life_on_a_real_systemd() {
    let host = match Host::boot() {
        Ok(host) => host,
        Err(why) => return skip(&why),
    };
    if let Err(why) = packages(&host.root.join("root")) {
        return skip(&why);
    }
    starts(&host);
    reloads(&host);
    reads_credentials(&host);
    is_upgraded_under_load(&host);
    comes_back_after_a_crash(&host);
    is_ended_by_the_watchdog_when_stuck(&host);
    is_started_by_a_connection(&host);
    stops_and_is_purged(&host);
    is_installed_by_make(&host);
}

fn starts(host: &Host) {
    host.does("apt-get install -y --no-install-recommends /root/first.deb");
    assert_eq!(host.show("ActiveState"), "active");
    assert_eq!(host.does("systemctl is-enabled tollgate").trim(), "enabled");
    host.serves();
    // Tens of thousands of requests would be more than the journal takes.
    host.does(
        "sed -i 's/^access = .*/access = \"off\"/' /etc/tollgate/tollgate.toml && \
         grep -q '^access = \"off\"' /etc/tollgate/tollgate.toml && systemctl reload tollgate",
    );
    host.waits_for(
        "status",
        "systemctl status tollgate | grep -q 'Status: \"1 routes'",
    );
    assert_eq!(
        host.does("stat -c '%a %U' /run/tollgate/admin.sock").trim(),
        "600 tollgate"
    );
    assert_eq!(
        host.does("stat -c '%a %U %G' /etc/tollgate /etc/tollgate/tollgate.toml"),
        "750 root tollgate\n640 root tollgate\n"
    );
    assert_eq!(
        host.does("ps -o user= -p $(cat /run/tollgate/tollgate.pid)")
            .trim(),
        "tollgate"
    );
    assert_eq!(
        host.does(
            "grep -i 'core file' /proc/$(cat /run/tollgate/tollgate.pid)/limits | awk '{print $5}'"
        )
        .trim(),
        "0"
    );
    host.does(
        "man -w tollgate >/dev/null && test -e /usr/share/bash-completion/completions/tollgate",
    );
    // A file that is wrong never gets as far as a process.
    host.does("systemctl stop tollgate && echo wrong >>/etc/tollgate/tollgate.toml");
    host.refuses("systemctl start tollgate");
    let line = host.does("grep -c '' /etc/tollgate/tollgate.toml");
    let place = format!("{CONFIG}:{}:", line.trim());
    assert!(
        host.journal().contains(&place),
        "{place}\n{}",
        host.journal()
    );
    host.does("sed -i '/^wrong$/d' /etc/tollgate/tollgate.toml; systemctl reset-failed tollgate; systemctl start tollgate");
    host.serves();
}

fn reloads(host: &Host) {
    let pid = host.show("MainPID");
    host.does("printf '[[route]]\\npath = \"/new\"\\nrespond = { status = 204 }\\n' >>/etc/tollgate/tollgate.toml");
    host.does("systemctl reload tollgate");
    assert_eq!(
        host.does("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/new"),
        "204"
    );
    host.does("echo wrong >>/etc/tollgate/tollgate.toml");
    host.refuses("systemctl reload tollgate");
    assert!(
        host.journal().contains("tollgate.toml:"),
        "{}",
        host.journal()
    );
    // Right as a text, and refused by the gateway, which opens what it points to.
    host.does("sed -i '/^wrong$/d' /etc/tollgate/tollgate.toml; cp /etc/tollgate/tollgate.toml /root/good");
    host.does(
        "sed -i 's/^\\[admin\\]/&\\ntoken = \"file:\\/nowhere\"/' /etc/tollgate/tollgate.toml",
    );
    host.refuses("systemctl reload tollgate");
    host.does("cat /root/good >/etc/tollgate/tollgate.toml; systemctl reload tollgate");
    assert_eq!(host.show("ActiveState"), "active");
    assert_eq!(host.show("MainPID"), pid);
    host.serves();
}

fn reads_credentials(host: &Host) {
    host.write(
        "/etc/systemd/system/tollgate.service.d/credential.conf",
        "[Service]\nLoadCredential=admin-token:/etc/tollgate/secrets/admin-token\n",
    );
    host.write("/etc/tollgate/secrets/admin-token", "token-for-a-test\n");
    host.does("chmod 0700 /etc/tollgate/secrets");
    host.does(
        "sed -i 's/^\\[admin\\]/&\\ntoken = \"cred:admin-token\"/' /etc/tollgate/tollgate.toml",
    );
    host.does("systemctl daemon-reload; systemctl restart tollgate; systemctl reload tollgate");
    let asked = "curl -s -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer token-for-a-test' http://127.0.0.1:9900/api/v1/routes";
    assert_eq!(host.does(asked), "200");
}

fn is_upgraded_under_load(host: &Host) {
    let before = host.show("MainPID");
    let served = host.under_load(|| {
        let said = host.does("dpkg -i /root/second.deb");
        assert!(said.contains("upgraded, tollgate"), "{said}\n{}", host.journal());
        assert_ne!(host.show("MainPID"), before);
        host.does("systemctl reload tollgate");
        // And in one go by hand, as after `make install`.
        host.does("cp /usr/bin/tollgate /usr/bin/.new && mv /usr/bin/.new /usr/bin/tollgate && tollgate upgrade");
        host.refuses("mv /usr/bin/tollgate /usr/bin/.old && tollgate upgrade || /usr/bin/.old upgrade");
        host.does("mv /usr/bin/.old /usr/bin/tollgate && systemctl reload tollgate");
    });
    assert!(served > 100, "{served}");
    assert_eq!(host.show("NRestarts"), "0");
    host.waits_for(
        "the process that was replaced is gone",
        &format!("! test -e /proc/{before}"),
    );
    assert_eq!(
        host.show("MainPID"),
        host.does("cat /run/tollgate/tollgate.pid").trim()
    );
    let asked = "curl -s -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer token-for-a-test' http://127.0.0.1:9900/api/v1/routes";
    assert_eq!(
        host.does(asked),
        "200",
        "the credential is there after an upgrade too"
    );
}

fn comes_back_after_a_crash(host: &Host) {
    // The process that came by an upgrade is no child of systemd's, and still watched.
    let pid = host.show("MainPID");
    host.does(&format!("kill -9 {pid}"));
    // The process first: asked in the other order, the old one may end between the questions.
    host.waits_for("it is restarted", &format!(
        "p=$(systemctl show --value -p MainPID tollgate); test $p != 0 && test $p != {pid} && systemctl is-active -q tollgate"
    ));
    host.serves();
    assert_eq!(host.show("NRestarts"), "1");
}

fn is_ended_by_the_watchdog_when_stuck(host: &Host) {
    host.write(
        "/etc/systemd/system/tollgate.service.d/watchdog.conf",
        "[Service]\nWatchdogSec=2\n",
    );
    host.does("systemctl daemon-reload; systemctl restart tollgate");
    let pid = host.show("MainPID");
    std::thread::sleep(seconds(3));
    assert_eq!(
        host.show("MainPID"),
        pid,
        "a gateway that lives is left alone\n{}",
        host.journal()
    );
    host.does(&format!("kill -STOP {pid}"));
    host.waits_for("it is replaced", &format!(
        "p=$(systemctl show --value -p MainPID tollgate); test $p != 0 && test $p != {pid} && systemctl is-active -q tollgate"
    ));
    host.serves();
    host.does("rm /etc/systemd/system/tollgate.service.d/watchdog.conf; systemctl daemon-reload");
}

fn is_started_by_a_connection(host: &Host) {
    host.does("systemctl stop tollgate; systemctl start tollgate.socket");
    assert_eq!(
        host.run("systemctl is-active tollgate").stdout.trim(),
        "inactive"
    );
    host.serves();
    // It may have been served by the socket's queue while the service said that it was about to be ready.
    host.waits_for("it is ready", "systemctl is-active -q tollgate");
    let served = host.under_load(|| {
        host.does("tollgate upgrade");
    });
    assert!(served > 0);
    // The socket stays while the service is down: who connects waits.
    host.does("systemctl kill -s KILL tollgate");
    host.serves();
    host.does("systemctl stop tollgate.socket tollgate");
    host.refuses("curl -s http://127.0.0.1:8080/health");
    // A socket that no listener wants ends the start with a line about it.
    host.write(
        "/etc/systemd/system/tollgate.socket.d/more.conf",
        "[Socket]\nListenStream=0.0.0.0:8099\n",
    );
    host.does("systemctl daemon-reload; systemctl start tollgate.socket");
    host.refuses("systemctl start tollgate");
    assert!(
        host.journal().contains("0.0.0.0:8099"),
        "{}",
        host.journal()
    );
    host.does("rm -r /etc/systemd/system/tollgate.socket.d; systemctl stop tollgate.socket; systemctl daemon-reload");
    host.does("systemctl reset-failed tollgate; systemctl start tollgate");
    host.serves();
}

fn stops_and_is_purged(host: &Host) {
    host.does("rm -r /etc/systemd/system/tollgate.service.d /etc/tollgate/secrets; systemctl daemon-reload");
    host.does("apt-get purge -y tollgate");
    host.refuses("curl -s http://127.0.0.1:8080/health");
    assert!(
        host.journal().contains("\"msg\":\"stopped\""),
        "{}",
        host.journal()
    );
    let left = "find /etc /usr/bin /usr/lib/systemd /usr/share /var/lib /var/log /run -xdev -name '*tollgate*' \
        -not -path '/var/log/journal/*' -not -path '/var/lib/apt/*' -not -path '/run/systemd/*' 2>/dev/null || true";
    assert_eq!(host.does(left), "");
    host.does("find /etc/systemd -xtype l -name '*tollgate*' | grep . && exit 1 || true");
}

fn is_installed_by_make(host: &Host) {
    let mut make = Command::new("make");
    make.arg("install")
        .arg(format!("BINARY={}", env!("CARGO_BIN_EXE_tollgate")))
        .arg(format!("DESTDIR={}", host.root.display()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", target())
        .env_remove("MAKEFLAGS");
    Ran::of(&mut make).expect(0);
    host.does("systemd-sysusers tollgate.conf; chgrp tollgate /etc/tollgate/tollgate.toml");
    host.does("systemctl daemon-reload; systemctl enable --now tollgate");
    host.serves();
    assert!(host.show("ExecStart").contains("/usr/local/bin/tollgate"));
    host.does("tollgate status && tollgate upgrade && systemctl reload tollgate && systemctl stop tollgate");
}
