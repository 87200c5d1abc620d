//! A page in a real browser: headless Chromium, by its DevTools protocol over two pipes.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// A page that is open, and the browser around it.
pub struct Page {
    chromium: Child,
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    last: u64,
    /// What the browser told by itself.
    told: Vec<Value>,
    _folder: tempfile::TempDir,
}

impl Page {
    /// Opens a file in a window of this size and waits until it has loaded.
    #[must_use]
    pub fn open(path: &Path, (width, height): (u32, u32)) -> Page {
        let folder = tempfile::tempdir().expect("a folder");
        let (orders, answers) = (folder.path().join("orders"), folder.path().join("answers"));
        for pipe in [&orders, &answers] {
            let made = Command::new("mkfifo").arg(pipe).status().expect("mkfifo");
            assert!(made.success(), "mkfifo");
        }
        let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
        // The browser reads orders from descriptor 3 and writes answers to 4. As root it has no sandbox.
        let chromium = Command::new("sh")
            .args(["-c", "exec chromium \"$@\" 3<\"$ORDERS\" 4>\"$ANSWERS\"", "sh"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
            .args(["--remote-debugging-pipe", &profile, "about:blank"])
            .env("ORDERS", &orders)
            .env("ANSWERS", &answers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium starts");
        let to = OpenOptions::new().write(true).open(&orders).expect("orders");
        let from = BufReader::new(File::open(&answers).expect("answers"));
        let mut page =
            Page { chromium, to, from, session: None, last: 0, told: Vec::new(), _folder: folder };
        let target = page.order("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = page.order("Target.attachToTarget", attach);
        page.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime", "Log", "Network", "Page"] {
            page.order(&format!("{domain}.enable"), json!({}));
        }
        page.resize((width, height));
        let url = format!("file://{}", fs::canonicalize(path).expect("the file").display());
        page.order("Page.navigate", json!({"url": url}));
        page.wait("Page.loadEventFired");
        page
    }

    /// Gives the window another size.
    pub fn resize(&mut self, (width, height): (u32, u32)) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.order("Emulation.setDeviceMetricsOverride", size);
    }

    /// As for somebody who has chosen a dark theme.
    pub fn dark(&mut self) {
        let features = json!([{"name": "prefers-color-scheme", "value": "dark"}]);
        self.order("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let how = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.order("Runtime.evaluate", how);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Errors on its console, exceptions, and what its policy forbade.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let wrong = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        self.told.iter().filter(wrong).map(Value::to_string).collect()
    }

    /// Addresses the page asked for, itself left out.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let asked = self.told.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        let other = asked.filter(|event| event["params"]["type"] != "Document");
        other.map(|event| event["params"]["request"]["url"].to_string()).collect()
    }

    /// The whole page as a picture in PNG.
    #[must_use]
    pub fn picture(&mut self, whole: bool) -> Vec<u8> {
        let how = json!({"format": "png", "captureBeyondViewport": whole});
        let picture = self.order("Page.captureScreenshot", how);
        let text = picture["data"].as_str().expect("a picture");
        base64::Engine::decode(&base64::prelude::BASE64_STANDARD, text).expect("base64")
    }

    fn order(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let id = self.last;
        let mut order = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            order["sessionId"] = json!(session);
        }
        let mut bytes = order.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("the browser listens");
        loop {
            let answer = self.next();
            if answer["id"] == id {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.told.push(answer);
        }
    }

    fn wait(&mut self, method: &str) {
        while !self.told.iter().any(|event| event["method"] == method) {
            let event = self.next();
            self.told.push(event);
        }
    }

    fn next(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).expect("the browser answers");
        assert_eq!(bytes.pop(), Some(0), "the browser has ended");
        serde_json::from_slice(&bytes).expect("JSON")
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Its children end with it.
        let _ = self.chromium.kill();
        let _ = self.chromium.wait();
    }
}
