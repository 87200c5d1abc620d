'use strict';
// The tables: sorted by a click on a column, filtered by what is typed.
function size(bytes) {
  const units = ['', 'K', 'M', 'G', 'T'];
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return unit && value < 10 ? `${value.toFixed(1)}${units[unit]}` : `${Math.round(value)}${units[unit]}`;
}
const parts = pairs => pairs.map(([name, count]) => `${name} ${many(count)}`).join(', ');
// A column: its heading, what it sorts by, and what it shows.
const text = (head, of) => ({ head, of, show: of });
const number = (head, of, show) => ({ head, of, show: show ? row => show(of(row)) : row => many(of(row)), number: true });
const time = (head, of) => number(head, of, length);
function table(id, rows, columns, first, overlaps) {
  const place = document.getElementById(id);
  if (!place) return;
  let by = first;
  let down = true;
  const words = html('input', { type: 'search', placeholder: 'Only rows with ...', 'aria-label': 'Only rows with' });
  const told = html('span', { class: 'dim' });
  const head = html('tr');
  const body = html('tbody');
  place.append(
    html('div', { class: 'tools' }, words, told),
    html('div', { class: 'scroll' }, html('table', {}, html('thead', {}, head), body)));
  columns.forEach((column, index) => {
    const cell = html('th', { scope: 'col', tabindex: 0, class: column.number ? 'number' : '' }, column.head);
    const sort = () => {
      down = by === index ? !down : Boolean(column.number);
      by = index;
      draw();
    };
    cell.addEventListener('click', sort);
    cell.addEventListener('keydown', event => { if (event.key === 'Enter') sort(); });
    head.append(cell);
  });
  // Without a column to begin with, rows stay in their order.
  const shown = row => columns.map(column => column.show(row));
  function draw() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const has = row => {
      const line = shown(row).filter(cell => typeof cell === 'string').join(' ').toLowerCase();
      return wanted.every(word => line.includes(word));
    };
    const kept = rows.filter(row => (!overlaps || !selected || overlaps(row, selected)) && has(row));
    const key = by === null ? () => 0 : columns[by].of;
    kept.sort((one, other) => {
      const [left, right] = [key(one), key(other)];
      if (left === right) return 0;
      if (left === null || left === undefined) return 1;
      if (right === null || right === undefined) return -1;
      return (left < right ? -1 : 1) * (down ? -1 : 1);
    });
    [...head.children].forEach((cell, index) => {
      cell.setAttribute('aria-sort', index !== by ? 'none' : down ? 'descending' : 'ascending');
    });
    body.replaceChildren(...kept.map(row => html('tr', {}, ...columns.map((column, index) => {
      const cell = html('td', { class: column.number ? 'number' : '' });
      cell.append(shown(row)[index]);
      return cell;
    }))));
    if (!kept.length) {
      body.append(html('tr', { class: 'none' }, html('td', { colspan: columns.length }, 'no rows')));
    }
    const all = `${many(rows.length)} ${rows.length === 1 ? 'row' : 'rows'}`;
    told.textContent = kept.length === rows.length ? all : `${many(kept.length)} of ${all}`;
  }
  words.addEventListener('input', draw);
  if (overlaps) listeners.push(draw);
  draw();
}
const common = [
  number('opened', row => row.opened), number('failed', row => row.failed), number('closed', row => row.closed),
  number('sockets at the end', row => row.open), text('by state', row => parts(row.states)),
  number('retransmits', row => row.retransmits), number('RST sent', row => row.resets_sent),
  number('RST received', row => row.resets_received), text('ended otherwise than by FIN', row => parts(row.how)),
  number('sent', row => row.bytes_sent, size), number('received', row => row.bytes_received, size),
];
const handshake = [time('handshake p50', row => row.handshake_p50), time('p99', row => row.handshake_p99)];
const queue = row => row.queue ? row.queue[0] : null;
table('processes', data.processes, [
  text('process', row => row.name), ...common,
  number('descriptors', row => row.fds ? row.fds[0] : null, value => value === null ? '-' : many(value)),
  number('limit', row => row.fds ? row.fds[1] : null, value => value === null ? '-' : many(value)),
], 1);
table('listeners', data.listeners, [
  text('port', row => row.name), ...common,
  number('not accepted', queue, value => value === null ? '-' : many(value)),
  number('backlog', row => row.queue ? row.queue[1] : null, value => value === null ? '-' : many(value)),
  time('accept p50', row => row.accept_p50), time('p99', row => row.accept_p99), ...handshake,
], 1);
table('remotes', data.remotes, [text('remote end', row => row.name), ...common, ...handshake], 1);
table('drops', data.drops || [], [
  number('segments', row => row.count), text('why', row => row.why),
  text('where', row => row.hook), text("the kernel's name", row => row.reason),
], 0);
const looked = data.shown || { columns: [], rows: [] };
table('shown', looked.rows, looked.columns.map(([head, figures], index) => (
  figures
    ? { head, of: row => row[index][1], show: row => row[index][0], number: true }
    : text(head, row => row[index][0]))), null);
// One connection's life as a bar.
function bar(one, longest) {
  const drawing = svg('svg', { viewBox: '0 0 340 16', role: 'img' });
  let x = 0;
  for (const [state, ms] of one.states) {
    const wide = Math.max(ms / longest * 340, 1);
    const part = svg('rect', { x, y: 2, width: wide, height: 12, fill: COLORS[state] || '#7f8c99' });
    part.addEventListener('pointermove', event => showTip(event, `${state} ${length(ms)}`));
    part.addEventListener('pointerleave', hideTip);
    drawing.append(part);
    x += wide;
  }
  return drawing;
}
function lives(id, rows, what) {
  const total = one => one.states.reduce((sum, [, ms]) => sum + ms, 0);
  const longest = Math.max(1e-3, ...rows.map(total));
  table(id, rows, [
    time(what, row => row.length), { head: 'time in each state', of: total, show: row => bar(row, longest) },
    text('began', row => at(row.start)), text('local', row => row.local),
    text('remote', row => row.remote), text('role', row => row.role), text('process', row => row.process),
    text('ended by', row => row.how || 'still there'), number('retransmits', row => row.retransmits),
    text('times', row => row.exact ? 'exact' : 'at least'),
    text('', row => row.states.map(([state, ms]) => `${state} ${length(ms)}`).join(', ')),
  ], 0, (row, [from, to]) => row.start < to && row.start + total(row) > from);
}
lives('handshakes', data.handshakes, 'handshake');
lives('closings', data.closings, 'closing');
table('openers', data.stacks.map(([stack, count]) => ({ stack, count })), [
  number('sockets', row => row.count), text('code that opened them, innermost last', row => row.stack.split(';').join(' > ')),
], 0);
