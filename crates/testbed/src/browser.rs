//! A real browser, driven over WebDriver: a session a test, ended with it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How long a browser may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// The key `→`, as WebDriver has it.
pub const RIGHT: &str = "\u{e014}";
/// The key `←`.
pub const LEFT: &str = "\u{e012}";
/// The key `↓`.
pub const DOWN: &str = "\u{e015}";
/// The key Enter.
pub const ENTER: &str = "\u{e007}";
/// The key Escape.
pub const ESCAPE: &str = "\u{e00c}";
/// The tab key.
pub const TAB: &str = "\u{e004}";

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// Its profile and the page's file.
    directory: tempfile::TempDir,
    /// Where pictures of pages are kept.
    pictures: PathBuf,
}

impl Browser {
    /// Starts one, in the namespaces of the caller. Pictures are kept below `directory`, which is the
    /// caller's `CARGO_TARGET_TMPDIR`.
    pub fn start(directory: &str) -> Self {
        let pictures = Path::new(directory).join("pictures");
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = driver.unwrap_or_else(|error| {
            panic!(
                "this test needs chromedriver: apt-get install chromium chromium-driver: {error}"
            )
        });
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            line.strip_prefix("ChromeDriver was started successfully on port ")?
                .trim_end_matches('.')
                .parse()
                .ok()
        });
        // What else it says is nobody's business, but somebody has to read it.
        std::thread::spawn(move || lines.for_each(drop));
        let directory = tempfile::tempdir().unwrap();
        let mut browser = Self {
            driver,
            port: port.expect("chromedriver says which port it listens on"),
            session: String::new(),
            directory,
            pictures,
        };
        let profile = format!("--user-data-dir={}", browser.directory.path().display());
        let arguments = [
            "--headless=new",
            // Tests run as root, and in namespaces of their own; the page is ours.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            "--window-size=1500,1000",
            &profile,
            "about:blank",
        ];
        let started = browser.ask(
            "POST",
            "/session",
            &json!({"capabilities": {"alwaysMatch": {
                "browserName": "chrome",
                "goog:chromeOptions": {"args": arguments},
                "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
            }}}),
        );
        browser.session = format!("/session/{}", started["sessionId"].as_str().unwrap());
        browser
    }

    /// Opens a page from a file, and waits until its script has run.
    pub fn open(&self, page: &str) {
        self.show(page);
        self.wait_for_script();
    }

    /// Opens a page from a file, which may have no script.
    pub fn show(&self, page: &str) {
        let path = self.directory.path().join("page.html");
        std::fs::write(&path, page).unwrap();
        self.post("/url", &json!({"url": format!("file://{}", path.display())}));
    }

    /// Opens an address and waits until the page's script has run.
    pub fn go(&self, address: &str) {
        self.post("/url", &json!({"url": address}));
        self.wait_for_script();
    }

    fn wait_for_script(&self) {
        self.wait_for("document.documentElement.dataset.ready === 'true'");
    }

    /// What an expression is worth in the page.
    pub fn value(&self, expression: &str) -> Value {
        let script = format!("return {expression};");
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// As `value`, for what is a text.
    pub fn text(&self, expression: &str) -> String {
        let value = self.value(expression);
        value.as_str().unwrap_or_else(|| panic!("{expression} is {value}")).to_owned()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn wait_for(&self, expression: &str) {
        let started = Instant::now();
        while self.value(expression) != json!(true) {
            assert!(started.elapsed() < PATIENCE, "{expression} does not become true");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Types, wherever the focus is.
    pub fn press(&self, keys: &str) {
        let strokes = keys.chars().flat_map(|key| {
            ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()}))
        });
        let strokes: Vec<Value> = strokes.collect();
        let source = json!({"type": "key", "id": "keyboard", "actions": strokes});
        self.post("/actions", &json!({"actions": [source]}));
    }

    /// Clicks in the middle of an element.
    pub fn click(&self, selector: &str) {
        let found = self.post("/element", &json!({"using": "css selector", "value": selector}));
        let element = found.as_object().and_then(|it| it.values().next()).unwrap();
        let origin = json!({"element-6066-11e4-a52e-4f735466cecf": element});
        let actions = json!([
            {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": origin},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]);
        let source = json!({"type": "pointer", "id": "mouse", "actions": actions});
        self.post("/actions", &json!({"actions": [source]}));
    }

    /// A command of the browser's own protocol.
    pub fn command(&self, name: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": name, "params": parameters}))
    }

    /// What pages had to complain about.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.log("browser");
        let messages = log.iter().map(|it| it["message"].as_str().unwrap_or("?").to_owned());
        // The browser's own first page has troubles of its own.
        messages.filter(|message| !message.starts_with("chrome:")).collect()
    }

    /// What pages have asked for since the last look.
    pub fn requests(&self) -> Vec<String> {
        let events = self.log("performance").into_iter().filter_map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let event = &event["message"];
            // The browser's own first page has scripts of its own.
            let document = event["params"]["documentURL"].as_str().unwrap_or_default();
            let is_own = document.starts_with("chrome:");
            let is_request = event["method"] == "Network.requestWillBeSent" && !is_own;
            is_request.then(|| event["params"]["request"]["url"].as_str().unwrap_or("?").to_owned())
        });
        events.collect()
    }

    /// Keeps a picture of the page, for a person to look at.
    pub fn picture(&self, name: &str) -> PathBuf {
        std::fs::create_dir_all(&self.pictures).unwrap();
        let path = self.pictures.join(format!("{name}.png"));
        let answer = self.ask("GET", &format!("{}/screenshot", self.session), &Value::Null);
        let bytes = STANDARD.decode(answer.as_str().unwrap()).unwrap();
        assert!(bytes.starts_with(b"\x89PNG"), "{name} is no picture");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let answer = self.post("/se/log", &json!({"type": kind}));
        answer.as_array().cloned().unwrap_or_default()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let mut length = None;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let header = line.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length.expect("WebDriver answers with a length")];
        stream.read_exact(&mut answer).unwrap();
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        let error = &answer["value"]["error"];
        assert!(error.is_null(), "{method} {path}: {}", answer["value"]["message"]);
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session; the driver would wait for others.
        if !self.session.is_empty() && !std::thread::panicking() {
            self.ask("DELETE", &self.session, &Value::Null);
        } else if !self.session.is_empty() {
            let stream = TcpStream::connect(("127.0.0.1", self.port));
            let head = format!(
                "DELETE {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                self.session
            );
            let _ = stream.and_then(|mut stream| {
                stream.write_all(head.as_bytes())?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.read(&mut [0])
            });
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
