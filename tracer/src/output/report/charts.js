'use strict';
// Draws the charts of the page from the JSON in it. Texts go in as text, never as markup.
const data = JSON.parse(document.getElementById('data').textContent);
const NS = 'http://www.w3.org/2000/svg';
const COLORS = {
  ESTABLISHED: '#4c9f70', LISTEN: '#7f8c99', SYN_SENT: '#d9a441', SYN_RECV: '#b9c24b', FIN_WAIT1: '#7ab6d9',
  FIN_WAIT2: '#4f86c6', CLOSING: '#9a77cf', TIME_WAIT: '#b8c4d0', LAST_ACK: '#e08e45', CLOSE_WAIT: '#d9534f',
};
const OTHERS = ['#4f86c6', '#d9534f', '#4c9f70', '#d9a441', '#9a77cf', '#e08e45'];

function html(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
function svg(name, attributes, text) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
// Wall times as at the machine that was watched, wherever the page is read.
function at(ms, withDay) {
  const time = new Date(ms + data.about.zone_minutes * 60000).toISOString();
  return withDay ? time.slice(0, 19).replace('T', ' ') : time.slice(11, 19);
}
function length(ms) {
  if (ms === null || ms === undefined) return '-';
  if (ms < 1) return `${Math.round(ms * 1000)}us`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(2) : ms.toFixed(1)}ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(2)}s`;
  if (ms < 3600000) return `${Math.floor(ms / 60000)}m${Math.round(ms % 60000 / 1000)}s`;
  return `${Math.floor(ms / 3600000)}h${Math.round(ms % 3600000 / 60000)}m`;
}
function many(count) {
  return count.toLocaleString('en');
}
const tip = html('div', { class: 'tip', role: 'status' });
tip.hidden = true;
document.body.append(tip);
function showTip(event, text) {
  tip.textContent = text;
  tip.hidden = false;
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  const left = event.clientX + 14 + width > innerWidth ? event.clientX - width - 14 : event.clientX + 14;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - height - 4))}px`;
}
function hideTip() { tip.hidden = true; }

// The time that is selected on one chart and shown on all: [from, to] in Unix milliseconds, or null.
let selected = null;
const listeners = [];
function select(range) {
  selected = range;
  const bar = document.getElementById('selection');
  bar.hidden = !range;
  if (range) {
    bar.firstChild.textContent = `Only ${at(range[0])} to ${at(range[1])}: ${inRange(range)} `;
  }
  for (const listener of listeners) listener();
}
function inRange([from, to]) {
  const { start, width } = data.timeline;
  const sum = name => data.timeline[name].reduce((total, count, index) => {
    const [begin, end] = [start + index * width, start + (index + 1) * width];
    return end > from && begin < to ? total + count : total;
  }, 0);
  return `${many(sum('opened'))} opened, ${many(sum('closed'))} closed, ${many(sum('failed'))} failed, `
    + `${many(sum('retransmits'))} retransmits, ${many(sum('resets'))} resets`
    + (data.timeline.dropped ? `, ${many(sum('dropped'))} segments dropped.` : '.');
}
document.getElementById('clear').addEventListener('click', () => select(null));
addEventListener('keydown', event => { if (event.key === 'Escape') select(null); });

const MARGIN = { left: 56, right: 12, top: 8, bottom: 22 };
const FROM = data.timeline.start;
const TO = Math.max(data.about.to, FROM + 1);
function steps(most, count) {
  const raw = most / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(one => one * power).find(one => one >= raw && (power < 1 || Number.isInteger(one)));
  return Math.max(step, 1);
}
function frame(width, height) {
  const drawing = svg('svg', { viewBox: `0 0 ${width} ${height}`, height, role: 'img' });
  const x = ms => MARGIN.left + (ms - FROM) / (TO - FROM) * (width - MARGIN.left - MARGIN.right);
  const count = Math.max(2, Math.floor(width / 140));
  for (let index = 0; index <= count; index += 1) {
    const ms = FROM + (TO - FROM) * index / count;
    const anchor = index === 0 ? 'start' : index === count ? 'end' : 'middle';
    drawing.append(svg('text', { x: x(ms), y: height - 6, 'text-anchor': anchor }, at(ms)));
  }
  return { drawing, x };
}
// Marks the selected time and lets a person select one.
function selectable(drawing, x, width, height, hover) {
  const plot = { y: MARGIN.top, height: height - MARGIN.top - MARGIN.bottom };
  if (selected) {
    const [from, to] = selected.map(ms => Math.min(Math.max(x(ms), MARGIN.left), width - MARGIN.right));
    drawing.append(svg('rect', { class: 'select', x: from, width: Math.max(1, to - from), ...plot }));
  }
  const cursor = svg('line', { class: 'cursor', y1: plot.y, y2: plot.y + plot.height, visibility: 'hidden' });
  const drawn = svg('rect', { class: 'select', ...plot, visibility: 'hidden' });
  drawing.append(cursor, drawn);
  const time = event => {
    const box = drawing.getBoundingClientRect();
    const share = ((event.clientX - box.left) * width / box.width - MARGIN.left) / (width - MARGIN.left - MARGIN.right);
    return FROM + Math.min(Math.max(share, 0), 1) * (TO - FROM);
  };
  let down = null;
  drawing.addEventListener('pointerdown', event => { down = time(event); });
  drawing.addEventListener('pointermove', event => {
    const now = time(event);
    cursor.setAttribute('x1', x(now));
    cursor.setAttribute('x2', x(now));
    cursor.setAttribute('visibility', 'visible');
    if (down !== null) {
      drawn.setAttribute('x', x(Math.min(down, now)));
      drawn.setAttribute('width', Math.abs(x(now) - x(down)));
      drawn.setAttribute('visibility', 'visible');
    }
    showTip(event, hover(now));
  });
  drawing.addEventListener('pointerup', event => {
    const now = time(event);
    if (down !== null && Math.abs(x(now) - x(down)) > 4) select([Math.min(down, now), Math.max(down, now)]);
    down = null;
  });
  drawing.addEventListener('pointerleave', () => {
    down = null;
    cursor.setAttribute('visibility', 'hidden');
    drawn.setAttribute('visibility', 'hidden');
    hideTip();
  });
}
// A chart over time of several rows of figures; `piled` puts one on top of the other.
function timeChart(id, rows, piled, unit, hidden) {
  const place = document.getElementById(id);
  const off = new Set(hidden);
  const { start, width: step, intervals } = data.timeline;
  const holder = html('div');
  const legend = html('div', { class: 'legend' });
  place.append(holder, legend);
  const middle = index => Math.min(start + (index + (step > 1000 ? 0.5 : 0)) * step, TO);
  function draw() {
    const width = Math.max(320, place.clientWidth - 24);
    const height = width < 500 ? 170 : 220;
    const shown = rows.filter(row => !off.has(row.name));
    const sums = Array.from({ length: intervals }, (_, index) => shown.reduce(
      (most, row) => piled ? most + (row.values[index] || 0) : Math.max(most, row.values[index] || 0), 0));
    const most = Math.max(1, ...sums);
    const { drawing, x } = frame(width, height);
    const y = value => height - MARGIN.bottom - value / most * (height - MARGIN.top - MARGIN.bottom);
    const every = steps(most, 4);
    for (let value = 0; value <= most; value += every) {
      drawing.append(svg('line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }));
      drawing.append(svg('text', { x: MARGIN.left - 6, y: y(value) + 4, 'text-anchor': 'end' }, many(value)));
    }
    const below = new Array(intervals).fill(0);
    for (const row of shown) {
      const points = [];
      const bottom = [];
      for (let index = 0; index < intervals; index += 1) {
        if (row.values[index] === null) continue;
        const value = row.values[index] + (piled ? below[index] : 0);
        points.push(`${x(middle(index)).toFixed(1)},${y(value).toFixed(1)}`);
        if (piled) {
          bottom.unshift(`${x(middle(index)).toFixed(1)},${y(below[index]).toFixed(1)}`);
          below[index] = value;
        }
      }
      const line = { points: [...points, ...bottom].join(' ') };
      drawing.append(piled
        ? svg('polygon', { ...line, fill: row.color, 'fill-opacity': 0.85 })
        : svg('polyline', { ...line, fill: 'none', stroke: row.color, 'stroke-width': 1.6 }));
    }
    selectable(drawing, x, width, height, ms => {
      const index = Math.min(intervals - 1, Math.max(0, Math.floor((ms - start) / step)));
      const lines = shown.filter(row => row.values[index]).map(row => `${row.name} ${many(row.values[index])}`);
      const end = start + (index + 1) * step;
      return [`${at(start + index * step)} to ${at(end)}`, ...(lines.length ? lines : [`no ${unit}`])].join('\n');
    });
    holder.replaceChildren(drawing);
  }
  for (const row of rows) {
    const mark = html('i');
    mark.style.background = row.color;
    const button = html('button', { type: 'button', class: off.has(row.name) ? 'off' : '' }, mark, row.name);
    button.addEventListener('click', () => {
      if (!off.delete(row.name)) off.add(row.name);
      button.classList.toggle('off');
      draw();
    });
    legend.append(button);
  }
  listeners.push(draw);
  draw();
}
// Findings as bars over time.
function findingsChart() {
  const place = document.getElementById('chart-findings');
  if (!place) return;
  const holder = html('div');
  place.append(holder);
  const colors = { leak: '#d9534f', exhaustion: '#d9534f', stuck: '#d9a441', note: '#7f8c99' };
  function draw() {
    const width = Math.max(320, place.clientWidth - 24);
    const rows = data.findings.slice(0, 40);
    const height = MARGIN.top + MARGIN.bottom + rows.length * 22;
    const { drawing, x } = frame(width, height);
    rows.forEach((found, index) => {
      const y = MARGIN.top + index * 22;
      const [from, to] = [x(Math.max(found.since, FROM)), x(Math.min(found.until || TO, TO))];
      drawing.append(svg('rect', { x: from, y: y + 2, width: Math.max(3, to - from), height: 16, rx: 3, fill: colors[found.severity] || '#7f8c99' }));
      const room = Math.floor((width - MARGIN.right - from) / 6.2);
      const words = found.verdict.length > room ? `${found.verdict.slice(0, Math.max(room - 1, 0))}…` : found.verdict;
      if (room > 24) drawing.append(svg('text', { class: 'on', x: from + 5, y: y + 14 }, words));
    });
    selectable(drawing, x, width, height, ms => {
      const there = data.findings.filter(found => found.since <= ms && (found.until || TO) >= ms);
      return [at(ms), ...(there.length ? there.map(found => found.verdict) : ['nothing found'])].join('\n');
    });
    holder.replaceChildren(drawing);
  }
  listeners.push(draw);
  draw();
}
// Folded stacks as a flame graph that grows downwards; a click on a frame shows it alone.
function flameChart() {
  const place = document.getElementById('chart-stacks');
  if (!place) return;
  const root = { name: 'all', count: 0, children: new Map() };
  for (const [stack, count] of data.stacks) {
    root.count += count;
    let node = root;
    for (const name of stack.split(';')) {
      if (!node.children.has(name)) node.children.set(name, { name, count: 0, children: new Map(), parent: node });
      node = node.children.get(name);
      node.count += count;
    }
  }
  let top = root;
  const holder = html('div');
  const back = html('button', { type: 'button' }, 'Show all');
  back.hidden = true;
  back.addEventListener('click', () => { top = root; draw(); });
  place.append(html('div', { class: 'tools' }, back), holder);
  const depth = node => 1 + Math.max(0, ...[...node.children.values()].map(depth));
  function draw() {
    back.hidden = top === root;
    const width = Math.max(320, place.clientWidth - 24);
    const height = depth(top) * 19;
    const drawing = svg('svg', { viewBox: `0 0 ${width} ${height}`, height, role: 'img' });
    const box = (node, left, wide, level) => {
      if (wide < 1) return;
      const hue = [...node.name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 997, 7) % 50;
      const part = svg('g', { cursor: 'pointer' });
      part.append(svg('rect', { x: left, y: level * 19, width: Math.max(wide - 1, 0.5), height: 18, rx: 2, fill: `hsl(${hue} 75% 66%)` }));
      const room = Math.floor(wide / 6.4);
      if (room > 3) {
        const words = node.name.length > room ? `${node.name.slice(0, room - 1)}…` : node.name;
        part.append(svg('text', { class: 'on', x: left + 4, y: level * 19 + 13 }, words));
      }
      part.addEventListener('click', () => { top = node; draw(); });
      part.addEventListener('pointermove', event => showTip(event, `${node.name}\n${many(node.count)} of ${many(root.count)} sockets`));
      part.addEventListener('pointerleave', hideTip);
      drawing.append(part);
      let from = left;
      for (const child of [...node.children.values()].sort((one, other) => other.count - one.count)) {
        const share = wide * child.count / node.count;
        box(child, from, share, level + 1);
        from += share;
      }
    };
    box(top, 0, width, 0);
    holder.replaceChildren(drawing);
  }
  draw();
  resized.push(draw);
}
// How many connections stayed how long in a state.
function bars(place, one) {
  const first = one.bars.findIndex(count => count > 0);
  const last = one.bars.findLastIndex(count => count > 0);
  if (first < 0) return;
  const counts = one.bars.slice(first, last + 1);
  const [width, height] = [340, 130];
  const drawing = svg('svg', { viewBox: `0 0 ${width} ${height}`, height, role: 'img' });
  const most = Math.max(...counts);
  const wide = Math.min(46, (width - 10) / counts.length);
  counts.forEach((count, index) => {
    const tall = count / most * 84;
    const x = 4 + index * wide;
    const bound = data.bounds_us[first + index];
    const below = bound === undefined ? 'longer' : length(bound / 1000);
    const from = first + index === 0 ? '0' : length(data.bounds_us[first + index - 1] / 1000);
    const bar = svg('rect', { x, y: 96 - tall, width: wide - 2, height: Math.max(tall, count ? 1 : 0), fill: COLORS[one.state] || OTHERS[0] });
    bar.addEventListener('pointermove', event => showTip(event, `${from} to ${below}: ${many(count)}`));
    bar.addEventListener('pointerleave', hideTip);
    drawing.append(bar);
    if (counts.length < 9 || index % 3 === 0) drawing.append(svg('text', { x, y: 110 }, `<${below}`));
  });
  const words = `${one.state}: ${many(one.count)}, p50 ${length(one.p50)}, p99 ${length(one.p99)}, longest ${length(one.max)}`;
  place.append(html('div', {}, html('h3', {}, words), drawing));
}
const resized = [];
let waiting = null;
addEventListener('resize', () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => [...listeners, ...resized].forEach(draw => draw()), 120);
});
const series = data.timeline;
timeChart('chart-states', series.states.map(([name, values]) => ({ name, values, color: COLORS[name] || '#7f8c99' })), true, 'sockets');
const RATES = {
  opened: '#4c9f70', closed: '#4f86c6', failed: '#d9534f', retransmits: '#d9a441', resets: '#9a77cf', dropped: '#8a5a2b',
  lost: '#e0218a',
};
timeChart('chart-rates', Object.entries(RATES)
  .filter(([name]) => name === 'lost' ? series.lost.some(count => count) : series[name])
  .map(([name, color]) => ({ name, values: series[name], color })), false, 'events');
if (document.getElementById('chart-fds')) {
  // A limit that is far away would press the rest flat.
  const near = series.fds.some(fds => fds && fds[0] * 5 > fds[1]);
  timeChart('chart-fds', [
    { name: 'in use', values: series.fds.map(fds => fds && fds[0]), color: '#4f86c6' },
    { name: 'limit', values: series.fds.map(fds => fds && fds[1]), color: '#d9534f' },
  ], false, 'descriptors', near ? [] : ['limit']);
}
findingsChart();
flameChart();
data.in_states.forEach(one => bars(document.getElementById('bars'), one));
