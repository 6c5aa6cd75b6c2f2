/** A table in Markdown. */
export function markdownTable(heading: readonly string[], rows: readonly string[][]): string {
  const align = heading.map((_, column) => column < 2 ? "---" : "---:");
  return [heading, align, ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** Nanoseconds as people say them. */
export function duration(ns: number): string {
  const [unit, value] = ns < 1e3 ? ["ns", ns] : ns < 1e6 ? ["µs", ns / 1e3] : ["ms", ns / 1e6];
  return `${value.toFixed(value >= 100 ? 0 : value >= 10 ? 0 : 1)} ${unit}`;
}

export function times(ratio: number | undefined): string {
  if (ratio === undefined) return "";
  return `${ratio.toFixed(ratio >= 100 ? 0 : ratio >= 10 ? 1 : 2)}×`;
}
