//! Positions inside a group.
//!
//! From top to bottom: the namespaces with their devices at the lower end, the cables, the upper
//! edge of the hub, the names of the cables' ends, the bridges, the routes, and the other devices.

use crate::diagram::{Cable, Device, Group, Hub, Item, Leaf, Section, fold_leaves};
use crate::lanes::{EDGES, GAP, Lanes, content, flow, len, section_width, wrap};
use crate::scene::{Area, Class, Kind, Label, Point, Shape, State, Wire};

/// How long the lines of a hub are that is narrower than the picture.
const LINE: usize = 72;

/// Where lines that join groups leave them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exits {
    Left,
    Below,
    Above,
}

/// What groups are laid out for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room<'a> {
    /// Columns. What does not fit is folded; one namespace always fits.
    pub(crate) width: usize,
    pub(crate) exits: Exits,
    /// What stands for what was left out.
    pub(crate) dots: &'a str,
}

/// Where a box is plugged into a line.
#[derive(Clone, Debug)]
pub(crate) struct Plug {
    pub(crate) id: String,
    pub(crate) trunk: usize,
    pub(crate) at: Point,
}

/// A group with positions of its own.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) boxes: Vec<Shape>,
    pub(crate) wires: Vec<Wire>,
    pub(crate) plugs: Vec<Plug>,
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// How many trunks its own wires have.
    pub(crate) trunks: usize,
}

impl Block {
    pub(crate) fn new(group: &Group, room: Room<'_>) -> Self {
        let inset = if group.node.is_some() { EDGES } else { 0 };
        let room = Room { width: room.width.saturating_sub(inset), ..room };
        let sections = fold(group, room);
        let lanes = Lanes::new(group.hub.as_ref(), &sections, room.exits == Exits::Above);
        let mut block = Self::default();
        let outer = group.node.as_ref().map(|item| block.shape(item, Area::default(), None));
        let mut ends = Vec::new();
        for (number, (section, x)) in sections.iter().zip(&lanes.sections).enumerate() {
            for (place, leaf) in section.leaves.iter().enumerate() {
                let x = x + place * (lanes.width + GAP);
                ends.extend(block.leaf(&lanes, (number, x), leaf, outer));
            }
        }
        block.height = if lanes.width == 0 { 0 } else { lanes.height() };
        block.width = lanes.end;
        if let Some(hub) = &group.hub {
            let top = if lanes.width == 0 { 0 } else { lanes.height() + 1 };
            Builder { block: &mut block, lanes: &lanes, room, top }
                .hub(hub, &sections, &ends, outer);
        }
        if let Some(outer) = outer {
            block.move_by(2, 1);
            let title = len(&block.boxes[outer].title) + EDGES;
            block.width = (block.width + EDGES).max(title);
            block.height += 2;
            let (width, height) = (block.width, block.height);
            block.boxes[outer].area = Area { x: 0, y: 0, width, height };
        }
        block
    }

    /// Moves all of it.
    pub(crate) fn move_by(&mut self, x: usize, y: usize) {
        for shape in &mut self.boxes {
            shape.area.x += x;
            shape.area.y += y;
        }
        let labels = self.wires.iter_mut().filter_map(|wire| wire.label.as_mut());
        let mut points: Vec<&mut Point> = labels.map(|label| &mut label.at).collect();
        points.extend(self.plugs.iter_mut().map(|plug| &mut plug.at));
        for point in points {
            (point.x, point.y) = (point.x + x, point.y + y);
        }
        for point in self.wires.iter_mut().flat_map(|wire| &mut wire.points) {
            (point.x, point.y) = (point.x + x, point.y + y);
        }
    }

    fn shape(&mut self, item: &Item, area: Area, inside: Option<usize>) -> usize {
        let Item { id, thing, class, state, title, lines } = item.clone();
        self.boxes.push(Shape { id, thing, inside, class, state, title, lines, area });
        self.boxes.len() - 1
    }

    fn trunk(&mut self) -> usize {
        self.trunks += 1;
        self.trunks - 1
    }

    fn leaf<'a>(
        &mut self,
        lanes: &Lanes,
        (section, x): (usize, usize),
        leaf: &'a Leaf,
        outer: Option<usize>,
    ) -> Vec<End<'a>> {
        let area = Area { x, y: 0, width: lanes.width, height: lanes.height() };
        let namespace = self.shape(&leaf.item, area, outer);
        let mut ends = Vec::new();
        for (place, device) in leaf.devices.iter().enumerate() {
            let area = Area {
                x: x + 2 + place * (lanes.device + 1),
                y: area.bottom() - lanes.devices,
                width: lanes.device,
                height: lanes.devices,
            };
            let from = self.shape(&device.item, area, Some(namespace));
            let at = Point { x: area.x + lanes.cable, y: area.bottom() };
            ends.extend(device.cable.as_ref().map(|cable| End { from, at, section, cable }));
        }
        ends
    }
}

/// Where a cable leaves the namespaces.
struct End<'a> {
    from: usize,
    at: Point,
    /// The number of its section.
    section: usize,
    cable: &'a Cable,
}

struct Builder<'a> {
    block: &'a mut Block,
    lanes: &'a Lanes,
    room: Room<'a>,
    top: usize,
}

impl Builder<'_> {
    fn hub(&mut self, hub: &Hub, sections: &[Section], ends: &[End<'_>], outer: Option<usize>) {
        let is_beside = self.is_beside(&hub.devices);
        let least = self.lanes.end.max(content(&hub.item.title, &hub.item.lines) + EDGES);
        let beside = if is_beside { beside_width(&hub.devices) + EDGES } else { 0 };
        let least = least.max(beside);
        let line = least.max(self.room.width.min(LINE));
        // Edges of the hub and of the box inside.
        let wrapped = |item: &Item| wrap(&item.lines, line - 2 * EDGES);
        let routes = hub.routes.as_ref().map(|item| Item { lines: wrapped(item), ..item.clone() });
        let inner = routes.iter().map(|item| content(&item.title, &item.lines)).max();
        let stacked =
            hub.devices.iter().map(|it| content(&it.item.title, &row(it, line)) + 4).max();
        let stacked = if is_beside { 0 } else { stacked.unwrap_or_default() };
        let inner = inner.unwrap_or_default().max(stacked);
        let width = if inner == 0 { least } else { least.max(inner + 2 * EDGES) };

        let area = Area { x: 0, y: self.top, width, height: 0 };
        let mut item = hub.item.clone();
        if self.room.exits == Exits::Left {
            // Each line that it is plugged into has a row.
            item.lines.resize(item.lines.len().max(hub.plugs.len()), String::new());
        }
        let place = self.block.shape(&item, area, outer);
        let labels = usize::from(!ends.is_empty());
        let bridge_top = self.top + 1 + item.lines.len() + labels;
        let (bridges, rows) = self.bridges(sections, width, bridge_top, place);
        let mut y = bridge_top + rows;
        let routes = routes.map(|item| {
            let area = Area { x: 2, y, width: width - EDGES, height: item.lines.len() + 2 };
            y += area.height;
            self.block.shape(&item, area, Some(place))
        });
        self.cables(ends, &bridges, routes, place, bridge_top);
        if let Some(routes) = routes {
            for (bridge, device) in bridges.iter().flatten() {
                let area = self.block.boxes[*bridge].area;
                let x = area.x + area.width / 2;
                if device.routed {
                    let points =
                        vec![Point { x, y: area.bottom() }, Point { x, y: area.bottom() + 1 }];
                    self.inner(*bridge, routes, points, None);
                }
            }
        }
        y = match is_beside {
            true => self.devices_beside(&hub.devices, y, routes, place),
            false => self.devices_below(&hub.devices, y, width, routes, place),
        };
        let area = Area { x: 0, y: self.top, width, height: y + 1 - self.top };
        self.block.boxes[place].area = area;
        self.plug(&hub.item.id, &hub.plugs, area);
        self.block.width = self.block.width.max(width);
        self.block.height = y + 1;
    }

    /// Whether the devices stand side by side.
    fn is_beside(&self, devices: &[Device]) -> bool {
        let has_plugs = devices.iter().any(|device| !device.plugs.is_empty());
        match self.room.exits {
            Exits::Below => true,
            Exits::Left if has_plugs => false,
            Exits::Left | Exits::Above => {
                beside_width(devices) + EDGES <= self.room.width.max(self.lanes.end)
            }
        }
    }

    fn bridges<'b>(
        &mut self,
        sections: &'b [Section],
        outer: usize,
        top: usize,
        hub: usize,
    ) -> (Vec<Option<(usize, &'b Device)>>, usize) {
        let mut bridges = Vec::new();
        for (place, (section, x)) in sections.iter().zip(&self.lanes.sections).enumerate() {
            let Some(bridge) = &section.bridge else {
                bridges.push(None);
                continue;
            };
            // The last one reaches as far as the namespace does.
            let end = match place + 1 == sections.len() {
                true => outer,
                false => x + section_width(section, self.lanes.width, self.lanes.drops),
            };
            let width = end - x - EDGES;
            let lines = flow(&bridge.item.lines, width - EDGES);
            bridges.push(Some((bridge, x + 2, width, lines, !section.leaves.is_empty())));
        }
        let heights = bridges.iter().flatten().map(|(.., lines, _)| lines.len() + 2);
        let rows = heights.max().unwrap_or_default();
        let mut shapes = Vec::new();
        for bridge in bridges {
            let Some((bridge, x, width, lines, has_leaves)) = bridge else {
                shapes.push(None);
                continue;
            };
            let area = Area { x, y: top, width, height: rows };
            let item = Item { lines, ..bridge.item.clone() };
            let shape = self.block.shape(&item, area, Some(hub));
            shapes.push(Some((shape, bridge)));
            // What is beside it is in the way of all but the first.
            match self.room.exits {
                // Lines pass on the right of the namespaces above.
                Exits::Above if has_leaves => {
                    let x = area.right().saturating_sub(2 * bridge.plugs.len() + 1);
                    let area = Area { x, width: 2 * bridge.plugs.len() + 2, ..area };
                    self.plug(&item.id, &bridge.plugs, area);
                }
                Exits::Above => self.plug(&item.id, &bridge.plugs, area),
                Exits::Left if x == 2 => self.plug(&item.id, &bridge.plugs, area),
                // What is beside it is in the way.
                _ => {}
            }
        }
        (shapes, rows)
    }

    fn cables(
        &mut self,
        ends: &[End<'_>],
        bridges: &[Option<(usize, &Device)>],
        routes: Option<usize>,
        hub: usize,
        bridge_top: usize,
    ) {
        for End { from, at, section, cable } in ends {
            let bridge = bridges.get(*section).copied().flatten().map(|(shape, _)| shape);
            let routes = routes.filter(|_| cable.routed);
            let to = bridge.or(routes).unwrap_or(hub);
            let y = match bridge.or(routes) {
                Some(shape) => self.block.boxes[shape].area.y,
                None => bridge_top - 1,
            };
            let trunk = self.block.trunk();
            let id = format!("wire-{}", self.block.boxes[*from].id);
            let label = Point { x: at.x + 2, y: bridge_top - 1 };
            self.block.wires.push(Wire {
                id,
                kind: cable.kind,
                state: cable.state,
                ends: [*from, to],
                things: cable.things.clone(),
                label: Some(Label { at: label, text: cable.label.clone() }),
                points: vec![*at, Point { x: at.x, y }],
                trunk,
            });
        }
    }

    /// The way between the routes and a device.
    fn inner(&mut self, device: usize, routes: usize, points: Vec<Point>, trunk: Option<usize>) {
        let trunk = trunk.unwrap_or_else(|| self.block.trunk());
        let shape = &self.block.boxes[device];
        self.block.wires.push(Wire {
            id: format!("inner-{}", shape.id),
            kind: Kind::Inner,
            state: State::Usual,
            ends: [device, routes],
            things: shape.thing.iter().cloned().collect(),
            label: None,
            points,
            trunk,
        });
    }

    fn devices_beside(
        &mut self,
        devices: &[Device],
        y: usize,
        routes: Option<usize>,
        hub: usize,
    ) -> usize {
        let rows = devices.iter().map(|it| it.item.lines.len() + 2).max().unwrap_or_default();
        let mut x = 2;
        for device in devices {
            let width = content(&device.item.title, &device.item.lines) + EDGES;
            let area = Area { x, y, width, height: rows };
            let shape = self.block.shape(&device.item, area, Some(hub));
            if let Some(routes) = routes.filter(|_| device.routed) {
                // On the right of the title, which it would hide.
                let x = x + (width / 2).max(len(&device.item.title) + 3).min(width - 1);
                let points = vec![Point { x, y }, Point { x, y: y - 1 }];
                self.inner(shape, routes, points, None);
            }
            if self.room.exits == Exits::Below {
                self.plug(&device.item.id, &device.plugs, area);
            }
            x += width + 1;
        }
        y + rows
    }

    fn devices_below(
        &mut self,
        devices: &[Device],
        mut y: usize,
        outer: usize,
        routes: Option<usize>,
        hub: usize,
    ) -> usize {
        let top = y;
        let channel = self.block.trunk();
        let has_channel = routes.is_some() && devices.iter().any(|device| device.routed);
        // The way to the routes runs on the right of the devices.
        let width = outer - EDGES - if has_channel { 4 } else { 0 };
        for device in devices {
            let mut lines = row(device, width);
            lines.resize(lines.len().max(device.plugs.len()), String::new());
            let item = Item { lines, ..device.item.clone() };
            let area = Area { x: 2, y, width, height: item.lines.len() + 2 };
            let shape = self.block.shape(&item, area, Some(hub));
            if let Some(routes) = routes.filter(|_| device.routed) {
                let x = area.right() + 2;
                let points = vec![
                    Point { x: area.right(), y: y + 1 },
                    Point { x, y: y + 1 },
                    Point { x, y: top - 1 },
                ];
                self.inner(shape, routes, points, Some(channel));
            }
            self.plug(&item.id, &device.plugs, area);
            y += area.height;
        }
        y
    }

    /// Where a box is plugged into lines.
    fn plug(&mut self, id: &str, trunks: &[usize], area: Area) {
        let count = trunks.len();
        for (place, trunk) in trunks.iter().enumerate() {
            let step = area.width * (place + 1) / (count + 1);
            let at = match self.room.exits {
                Exits::Left => Point { x: area.x, y: (area.y + 1 + place).min(area.bottom()) },
                Exits::Below => Point { x: area.x + step, y: area.bottom() },
                Exits::Above => Point { x: area.x + step, y: area.y },
            };
            self.block.plugs.push(Plug { id: id.to_owned(), trunk: *trunk, at });
        }
    }
}

/// The columns of devices side by side.
fn beside_width(devices: &[Device]) -> usize {
    let width = |device: &Device| content(&device.item.title, &device.item.lines) + EDGES + 1;
    devices.iter().map(width).sum::<usize>().saturating_sub(1)
}

/// A device's lines where it has a row for itself.
fn row(device: &Device, width: usize) -> Vec<String> {
    flow(&device.item.lines, width.saturating_sub(EDGES))
}

/// The sections of a group, each with as many namespaces as fit; where lines leave a hub above it,
/// its switches are sections, too.
fn fold(group: &Group, room: Room<'_>) -> Vec<Section> {
    let lanes = Lanes::new(group.hub.as_ref(), &group.sections, false);
    let lane = lanes.width + GAP;
    let mut room_left = ((room.width + GAP) / lane).max(1);
    let mut later = group.sections.iter().filter(|section| !section.leaves.is_empty()).count();
    let fit = |section: &Section| {
        later = later.saturating_sub(usize::from(!section.leaves.is_empty()));
        // Where nodes are side by side, a pod of each is seen; if that does not fit, they are not.
        let is_seen = section.pinned || room.exits == Exits::Below;
        let fits = room_left.saturating_sub(later).max(if is_seen { 2 } else { 1 });
        let mut section = section.clone();
        if section.leaves.len() > fits {
            let is_folded =
                section.leaves.last().is_some_and(|leaf| leaf.item.class == Class::Folded);
            let kept = fits - 1;
            if !is_folded || section.leaves.len() > kept + 1 {
                fold_leaves(&mut section, kept, room.dots);
            }
        }
        room_left = room_left.saturating_sub(section.leaves.len());
        section
    };
    group.sections.iter().map(fit).collect()
}
