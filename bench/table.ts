/** A table in Markdown, with columns of numbers on the right. */
export function markdownTable(heading: readonly string[], rows: readonly string[][]): string {
  const align = heading.map((_, column) =>
    rows.every((row) => /^(\d.*)?$/.test(row[column]!)) ? "---:" : "---"
  );
  return [heading, align, ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** Nanoseconds as people say them. */
export function duration(ns: number): string {
  const [unit, value] = ns < 1e3 ? ["ns", ns] : ns < 1e6 ? ["µs", ns / 1e3] : ["ms", ns / 1e6];
  return `${value.toFixed(value >= 10 ? 0 : value >= 1 ? 1 : 2)} ${unit}`;
}

export function times(ratio: number | undefined): string {
  if (ratio === undefined) return "";
  if (ratio < 0.1) return `${ratio.toPrecision(1)}×`;
  return `${ratio.toFixed(ratio >= 100 ? 0 : ratio >= 10 ? 1 : 2)}×`;
}
