//! Requests: subscribing, `/instances`, `/info`, and all that is refused.

use std::fmt::Write;

use bytes::Bytes;

use super::action::Answering;
use super::http::{Answer, Reply, Request};
use super::render::{self, Kind};
use super::subscriber::{About, Queued, Subscriber, SubscriberId};
use super::{SimMaster, Version};
use crate::event::InstanceId;

impl SimMaster {
    /// Answers a request at the present moment.
    pub fn handle(&mut self, request: &Request<'_>) -> Reply {
        if !self.up {
            return Reply::Refused;
        }
        match &self.answering {
            Answering::Normally => {}
            Answering::Never => return Reply::Silence,
            Answering::Refusing => return Reply::Refused,
            Answering::Redirecting(to) => return Reply::Answer(Answer::redirect(307, to)),
            Answering::Status(status) => return Reply::Answer(Answer::page(*status)),
            Answering::AnotherSite => return Reply::Answer(Answer::page(200)),
        }
        match self.answer(request) {
            Ok(subscriber) => Reply::Stream(subscriber),
            Err(answer) => Reply::Answer(answer),
        }
    }

    fn answer(&mut self, request: &Request<'_>) -> Result<SubscriberId, Answer> {
        let version = self.spec.version;
        let path = request.path.split('?').next().unwrap_or_default();
        if path.starts_with("//") && !version.is_rust() {
            return Err(Answer::redirect(307, &format!("/{}", path.trim_start_matches('/'))));
        }
        let base = format!("{}/v1/", self.spec.prefix);
        let call = path.strip_prefix(&base).unwrap_or_default().to_owned();
        let (call, id) = call.split_once('/').map_or((&*call, None), |(call, id)| (call, Some(id)));
        let known = match (call, id) {
            ("events" | "instances", None) => true,
            ("info", None) => version.has_info(),
            ("instances", Some(id)) => !id.is_empty() && !id.contains('/'),
            _ => false,
        };
        if !known {
            return Err(Answer::not_found(version));
        }
        if request.method == "OPTIONS" {
            return Err(Answer::empty(200));
        }
        match request.key {
            None | Some("") => return Err(Answer::error(version, 401, "Unauthorized: API key required")),
            Some(key) if key != self.key.reveal() => return Err(Answer::error(version, 401, "Unauthorized: Invalid API key")),
            Some(_) => {}
        }
        if request.method != "GET" {
            return Err(if version.is_rust() { Answer::empty(405) } else { Answer::error(version, 405, "Method not allowed") });
        }
        match (call, id) {
            ("events", _) => Ok(self.subscribe()),
            ("info", _) => Err(Answer::json(version, 200, &self.info())),
            (_, None) => Err(Answer::json(version, 200, &self.all_instances())),
            (_, Some(id)) => Err(self.one_instance(&InstanceId::from(id))),
        }
    }

    /// Opens a stream: one `initial` event per instance, `********` at any position, before anything else.
    fn subscribe(&mut self) -> SubscriberId {
        let id = SubscriberId(self.subscribers_made);
        self.subscribers_made += 1;
        let mut subscriber = Subscriber::default();
        for (index, about) in self.shuffled().into_iter().enumerate() {
            let moment = self.moment();
            let bytes = self.render(Queued::Live { kind: Kind::Initial, moment, about, logs: "".into() });
            // The retry block shares the first chunk with the first event.
            let with_retry = index == 0 && !self.spec.version.is_rust();
            subscriber.counts.sent += 1;
            subscriber.put(if with_retry { Bytes::from([b"retry: 3000\n\n", &bytes[..]].concat()) } else { bytes }, self.now);
        }
        self.subscribers.insert(id, subscriber);
        self.arm_comment(id);
        id
    }

    /// All instances and the key's, in the arbitrary order of a hash map.
    fn shuffled(&mut self) -> Vec<About> {
        let mut all: Vec<About> = self.instances().map(|instance| About::Instance(instance.id.clone())).collect();
        all.push(About::KeyHolder);
        // By numbers of 64 bits: the library's own shuffle draws other ones where pointers are shorter.
        for last in (1..all.len()).rev() {
            all.swap(last, self.rng.u64(0..=last as u64) as usize);
        }
        all
    }

    fn all_instances(&mut self) -> String {
        let mut out = String::from("[");
        for (index, about) in self.shuffled().into_iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            match about {
                About::Instance(id) => render::push_instance(&mut out, self.spec.version, &self.instances[&id]),
                _ => render::push_key_holder(&mut out, self.spec.version, self.key.reveal(), &self.master_id),
            }
        }
        out.push(']');
        out
    }

    fn one_instance(&self, id: &InstanceId) -> Answer {
        let version = self.spec.version;
        let mut out = String::new();
        if id.as_str() == InstanceId::KEY_HOLDER {
            render::push_key_holder(&mut out, version, self.key.reveal(), &self.master_id);
        } else if let Some(instance) = self.instance(id) {
            render::push_instance(&mut out, version, instance);
        } else {
            return Answer::error(version, 404, "Instance not found");
        }
        Answer::json(version, 200, &out)
    }

    fn info(&mut self) -> String {
        let version = self.spec.version;
        let alias = render::string(version, &self.spec.alias);
        let (cpu, used, received, sent) =
            (self.rng.u64(0..60), self.rng.u64(600_000_000..900_000_000), self.now.0 / 9_000, self.now.0 / 8_000);
        let uptime = self.now.since(self.started_at).as_secs();
        let system = self.now.0.rem_euclid(1 << 40) / 1_000_000;
        let (ver, total) = (version.name(), 25_276_510_208_u64);
        if version.is_rust() {
            return format!(
                "{{\"mid\":\"{}\",\"alias\":{alias},\"os\":\"linux\",\"arch\":\"x86_64\",\"cpu\":{cpu},\"mem_total\":{total},\"mem_used\":{used},\"swap_total\":0,\"swap_used\":0,\"netrx\":{received},\"nettx\":{sent},\"diskr\":{received},\"diskw\":{sent},\"sysup\":{system},\"ver\":\"{ver}\",\"name\":\"127.0.0.1\",\"uptime\":0,\"log\":\"info\",\"tls\":\"0\",\"crt\":\"\",\"key\":\"\"}}",
                self.master_id
            );
        }
        let mut out = String::from("{");
        if version.has_config() {
            let _ = write!(out, "\"alias\":{alias},");
        }
        out.push_str("\"arch\":\"amd64\",");
        if version == Version::Go1_4_2 {
            let _ = write!(out, "\"crt\":\"\",\"key\":\"\",\"log\":\"info\",\"name\":\"127.0.0.1\",\"os\":\"linux\",");
            let _ = write!(out, "\"tls\":\"0\",\"ver\":\"{ver}\"}}");
            return out;
        }
        let _ = write!(out, "\"cpu\":{cpu},\"crt\":\"\",\"diskr\":{received},\"diskw\":{sent},\"key\":\"\",\"log\":\"info\",");
        if version == Version::Go1_6_1 {
            let _ = write!(out, "\"mem_free\":{},\"mem_total\":{total},", total - used);
        } else {
            let _ = write!(out, "\"mem_total\":{total},\"mem_used\":{used},");
        }
        if version.has_meta() {
            let _ = write!(out, "\"mid\":\"{}\",", if self.first_run { "" } else { &self.master_id });
        }
        let _ = write!(out, "\"name\":\"127.0.0.1\",\"netrx\":{received},\"nettx\":{sent},");
        if version == Version::Go2_0_0B10 {
            out.push_str("\"noc\":2,");
        }
        let swap =
            if version == Version::Go1_6_1 { "\"swap_free\":0,\"swap_total\":0" } else { "\"swap_total\":0,\"swap_used\":0" };
        let _ = write!(out, "\"os\":\"linux\",{swap},\"sysup\":{system},\"tls\":\"0\",\"uptime\":{uptime},\"ver\":\"{ver}\"}}");
        out
    }
}
