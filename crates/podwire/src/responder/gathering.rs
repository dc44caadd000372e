//! The responders of a cluster together: each opens ends, asks those of the others, and tells what it
//! has seen.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use diagnosis::verify::{Outcome, Protocol};
use probe::{Answer, Ask, Ends, Limits, Query, Sight};
use serde::Deserialize;
use topology::Machine;

use super::client::{Client, ClientError};
use super::tls::Files;
use crate::failure::{Exit, Failure, Result};
use crate::terminal::harmless;
use crate::verify::{Heard, HostCall, Opened, PodPort};

/// How often those that are done say that they still wait for others.
const KEEP: Duration = Duration::from_secs(2);
/// How often they look whether they do.
const LOOK: Duration = Duration::from_millis(20);

/// Whom to ask, as a person writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Settings {
    authority: std::path::PathBuf,
    certificate: std::path::PathBuf,
    key: std::path::PathBuf,
    responders: Vec<Named>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Named {
    /// The node's name, which the certificate has to have.
    name: String,
    address: SocketAddr,
}

/// One responder.
struct Member {
    name: String,
    /// Or why it is of no use any more.
    client: Mutex<std::result::Result<Client, String>>,
}

impl Member {
    /// Does something by its session, which ends with the first error.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Client) -> std::result::Result<T, ClientError>,
    ) -> std::result::Result<T, String> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match client.as_mut() {
            Ok(client) => work(client),
            Err(why) => return Err(why.clone()),
        };
        done.map_err(|error| {
            let why = harmless(&format!("the responder of {}: {error}", self.name));
            *client = Err(why.clone());
            why
        })
    }
}

/// A place on one of the machines.
struct Place {
    member: usize,
    /// Its number there.
    number: usize,
    address: IpAddr,
    ends: std::result::Result<Ends, probe::Failure>,
}

/// What came of a question, or why nobody can tell.
pub(crate) type Told = std::result::Result<std::result::Result<Answer, probe::Failure>, String>;

/// Sessions with all of them.
pub(crate) struct Gathering {
    members: Vec<Member>,
    places: Vec<Place>,
}

impl Gathering {
    /// Begins a session with each, and looks at what there is. Without one of them nobody can tell
    /// what the cluster is.
    pub(crate) fn open(path: &Path) -> Result<(Self, Machine)> {
        let settings = read(path)?;
        let files = Files {
            authority: settings.authority,
            certificate: settings.certificate,
            key: settings.key,
        };
        let tls = files.client().map_err(|why| Failure::new(Exit::Usage, harmless(&why)))?;
        let look = |named: &Named| {
            let mut client = Client::open(&named.name, named.address, tls.clone())?;
            let machine = client.look()?;
            Ok::<_, ClientError>((client, machine))
        };
        let looks: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = settings
                .responders
                .iter()
                .map(|named| (named, scope.spawn(|| look(named))))
                .collect();
            threads.into_iter().map(|(named, thread)| (named, thread.join())).collect()
        });
        let (mut members, mut parts) = (Vec::new(), Vec::new());
        for (Named { name, address }, look) in looks {
            let failed = |why: String| {
                let what = format!("the responder of {name} at {address}: {why}");
                Failure::new(Exit::Unknown, harmless(&what))
            };
            let look = look.map_err(|_| failed("the thread that asks has ended early".into()))?;
            let (client, machine) = look.map_err(|error| failed(error.to_string()))?;
            members.push(Member { name: name.clone(), client: Mutex::new(Ok(client)) });
            parts.push((name.clone(), machine));
        }
        Ok((Self { members, places: Vec::new() }, Machine::across(parts)))
    }

    /// Opens places, each of a member by its number, which are spoken of by their order from here on;
    /// and tells all of the ports of nodes that lead to pods.
    pub(crate) fn open_places(
        &mut self,
        places: &[(usize, IpAddr)],
        ports: &BTreeSet<(SocketAddr, Protocol)>,
    ) -> Result<()> {
        let mut ends = Vec::new();
        for (number, member) in self.members.iter().enumerate() {
            let of = |is_own: bool| -> Vec<IpAddr> {
                let wanted = places.iter().filter(|(it, _)| (*it == number) == is_own);
                wanted.map(|(_, address)| *address).collect()
            };
            let opened = member.with(|client| {
                client.announce(of(false), ports.clone())?;
                client.open_places(of(true))
            });
            ends.push(opened.map_err(|why| Failure::new(Exit::Unknown, why))?.into_iter());
        }
        let mut counts = vec![0; self.members.len()];
        for (member, address) in places {
            let missing = || Failure::new(Exit::Unknown, "a responder has opened too little");
            let end = ends.get_mut(*member).and_then(Iterator::next).ok_or_else(missing)?;
            let number = counts[*member];
            counts[*member] += 1;
            self.places.push(Place { member: *member, number, address: *address, ends: end });
        }
        Ok(())
    }

    /// Asks between the places, and returns what came of the questions in their order.
    pub(crate) fn ask(
        &self,
        asks: &[Ask],
        limits: Limits,
        seed: u64,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Vec<Told> {
        let mut told: Vec<Option<Told>> = asks.iter().map(|_| None).collect();
        let mut queries: Vec<Vec<(usize, Query)>> = vec![Vec::new(); self.members.len()];
        for (number, ask) in asks.iter().enumerate() {
            let (from, to) = (&self.places[ask.from], &self.places[ask.to]);
            let ends = from.ends.clone().and_then(|_| to.ends.clone());
            match ends {
                Err(failure) => told[number] = Some(Ok(Err(failure))),
                Ok(ends) => queries[from.member].push((
                    number,
                    Query {
                        from: from.number,
                        to: ends.at(to.address, ask.protocol),
                        protocol: ask.protocol,
                        shape: ask.shape,
                        token: probe::token(seed, number as u64),
                    },
                )),
            }
        }
        let results = self.each(&queries, |member, queries| {
            let asked: Vec<Query> = queries.iter().map(|(_, query)| *query).collect();
            member.with(|client| client.ask(asked, limits, go_on))
        });
        let seen = self.each(&queries, |member, _| member.with(Client::seen));
        for (replies, queries) in results.into_iter().zip(queries) {
            let mut replies = replies.map(Vec::into_iter);
            for (number, query) in queries {
                let reply = match &mut replies {
                    Ok(replies) => replies.next().ok_or_else(early),
                    Err(why) => Err(why.clone()),
                };
                told[number] = Some(self.conclude(&asks[number], &query, reply, &seen));
            }
        }
        told.into_iter().map(|it| it.unwrap_or_else(|| Err(early()))).collect()
    }

    /// Has places call what is no end of ours, and returns what came of it in the same order.
    pub(crate) fn make_calls(
        &self,
        calls: &[(usize, HostCall)],
        patience: Duration,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Vec<Outcome> {
        let made = self.of_places(calls, |client, calls| client.make_calls(calls, patience, go_on));
        made.into_iter().map(|it| it.unwrap_or_else(Outcome::Unknown)).collect()
    }

    /// Listens at ports of places, for calls that wait so long for their answers.
    pub(crate) fn listen(&self, ports: &[(usize, PodPort)], patience: Duration) -> Vec<Opened> {
        let opened = self.of_places(ports, |client, ports| client.listen(ports, patience));
        opened.into_iter().map(|it| it.map_err(Outcome::Unknown).flatten()).collect()
    }

    /// Who was heard at these ports, which are closed.
    pub(crate) fn heard(&self, ports: &[(usize, PodPort)]) -> Vec<Heard> {
        let heard = self.of_places(ports, |client, _| client.heard());
        heard.into_iter().map(|it| it.map_err(Outcome::Unknown).flatten()).collect()
    }

    /// Has each responder do what is of its own places, and returns what came of all in their order.
    fn of_places<T: Copy + Sync, R: Send>(
        &self,
        all: &[(usize, T)],
        work: impl Fn(&mut Client, Vec<T>) -> std::result::Result<Vec<R>, ClientError> + Sync,
    ) -> Vec<std::result::Result<R, String>> {
        let mut parts: Vec<Vec<(usize, T)>> = vec![Vec::new(); self.members.len()];
        for (number, (place, one)) in all.iter().enumerate() {
            parts[self.places[*place].member].push((number, *one));
        }
        let results = self.each(&parts, |member, part| {
            member.with(|client| match part.is_empty() {
                // Many a short thing is done with others, and each time it hears that it is waited for.
                true => client.keep().map(|()| Vec::new()),
                false => work(client, part.iter().map(|(_, one)| *one).collect()),
            })
        });
        let mut told: Vec<_> = all.iter().map(|_| Err(early())).collect();
        for (result, part) in results.into_iter().zip(parts) {
            let mut done = result.map(Vec::into_iter);
            for (number, _) in part {
                told[number] = match &mut done {
                    Ok(done) => done.next().ok_or_else(early),
                    Err(why) => Err(why.clone()),
                };
            }
        }
        told
    }

    /// Does something with each member and its part, with all at once. Those that are done say that
    /// they still wait for others.
    fn each<P: Sync, T: Send>(
        &self,
        parts: &[P],
        work: impl Fn(&Member, &P) -> std::result::Result<T, String> + Sync,
    ) -> Vec<std::result::Result<T, String>> {
        let busy = AtomicUsize::new(self.members.len());
        let (busy, work) = (&busy, &work);
        let run = |member: &Member, part: &P| {
            let done = work(member, part);
            busy.fetch_sub(1, Ordering::Relaxed);
            let mut kept = Instant::now();
            while busy.load(Ordering::Relaxed) > 0 {
                thread::sleep(LOOK);
                if kept.elapsed() > KEEP {
                    kept = Instant::now();
                    let _ = member.with(Client::keep);
                }
            }
            done
        };
        thread::scope(|scope| {
            let both = self.members.iter().zip(parts);
            let threads: Vec<_> =
                both.map(|(member, part)| scope.spawn(move || run(member, part))).collect();
            threads.into_iter().map(|it| it.join().unwrap_or_else(|_| Err(early()))).collect()
        })
    }

    /// What two of them say of a question: one what came back, the other what arrived.
    fn conclude(
        &self,
        ask: &Ask,
        query: &Query,
        reply: std::result::Result<std::result::Result<probe::Reply, probe::Failure>, String>,
        seen: &[std::result::Result<HashMap<u64, Sight>, String>],
    ) -> Told {
        let (from, to) = (&self.places[ask.from], &self.places[ask.to]);
        let heard = seen[to.member].as_ref().map_err(Clone::clone)?;
        let heard = heard.get(&query.token).copied();
        Ok(probe::conclude(from.address, to.address, reply?, heard))
    }
}

fn early() -> String {
    "the thread that asks has ended early".to_owned()
}

fn read(path: &Path) -> Result<Settings> {
    let shown = harmless(&path.display().to_string());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(Exit::NotFound, format!("read {shown}: {error}")))?;
    let settings: Settings = serde_saphyr::from_str(&text)
        .map_err(|error| Failure::new(Exit::Usage, format!("{shown}: {error}")))?;
    match settings.responders.is_empty() {
        true => Err(Failure::new(Exit::Usage, format!("{shown}: no responders are named"))),
        false => Ok(settings),
    }
}
