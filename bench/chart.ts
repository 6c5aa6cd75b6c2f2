/** The times of the peers' jobs as bars on a logarithmic scale, in SVG that is legible on light and on dark. */
import type { PeerRow } from "./peers_bench.ts";
import { duration } from "./table.ts";

const [width, left, right] = [820, 210, 90];
const [barHeight, gap, headingHeight] = [16, 4, 40];

const style = `text { font: 12px system-ui, sans-serif; fill: #24292f }
.heading { font-weight: 600; font-size: 14px }
.grid { stroke: #8b949e; stroke-opacity: .35 }
.scale { font-size: 10px; fill: #57606a }
.ours { fill: #1a7f37 }
.peer { fill: #8c959f }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.scale { fill: #8b949e }
.ours { fill: #3fb950 }
.peer { fill: #6e7681 }
}`;

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** One job, fastest first, from `top` on; returns where it ends too. */
function panel(title: string, rows: readonly PeerRow[], top: number): [svg: string, end: number] {
  const sorted = rows.toSorted((a, b) => a.ns - b.ns);
  const [low, high] = [sorted[0]!.ns, sorted.at(-1)!.ns];
  const first = Math.floor(Math.log10(low) - 0.1);
  const last = Math.max(first + 1, Math.ceil(Math.log10(high)));
  const x = (ns: number) =>
    left + (Math.log10(ns) - first) / (last - first) * (width - left - right);
  const begin = top + headingHeight;
  const end = begin + sorted.length * (barHeight + gap);
  const parts = [`<text class="heading" x="8" y="${top + 16}">${escaped(title)}</text>`];
  for (let power = first; power <= last; power++) {
    const at = x(10 ** power).toFixed(1);
    parts.push(
      `<line class="grid" x1="${at}" x2="${at}" y1="${begin - 4}" y2="${end}"/>`,
      `<text class="scale" x="${at}" y="${begin - 8}" text-anchor="middle">${
        duration(10 ** power).replace(".0", "")
      }</text>`,
    );
  }
  sorted.forEach(({ name, ns, isOurs }, i) => {
    const y = begin + i * (barHeight + gap);
    const label = isOurs ? `this module (${name})` : name;
    parts.push(
      `<text x="${left - 8}" y="${y + 12}" text-anchor="end">${escaped(label)}</text>`,
      `<rect class="${isOurs ? "ours" : "peer"}" x="${left}" y="${y}" width="${
        (x(ns) - left).toFixed(1)
      }" height="${barHeight}" rx="2"/>`,
      `<text x="${(x(ns) + 6).toFixed(1)}" y="${y + 12}">${duration(ns)}</text>`,
    );
  });
  return [parts.join("\n"), end + 16];
}

export function chartOf(rows: readonly PeerRow[], caption: string): string {
  const panels: string[] = [];
  let top = 8;
  for (const title of new Set(rows.map((row) => row.title))) {
    const own = rows.filter((row) => row.title === title);
    const [svg, end] = panel(title, own, top);
    panels.push(svg);
    top = end;
  }
  const height = top + 24;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>Time per operation on a logarithmic scale: shorter is better</title>
<style>${style}</style>
${panels.join("\n")}
<text class="scale" x="8" y="${top + 12}">Shorter is better; logarithmic scale. ${
    escaped(caption)
  }</text>
</svg>
`;
}
