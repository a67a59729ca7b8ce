/**
 * Where the command line prints: lines, text that streams, and a status line that is drawn over.
 *
 * @module
 */

/** What commands print to. */
export interface Terminal {
  /** Whether someone watches: then the status line is drawn. */
  readonly isInteractive: boolean;
  /** Width in characters. */
  columns(): number;
  /** Prints a line. */
  line(text?: string): void;
  /** Prints text without ending the line. */
  write(text: string): void;
  /** Draws the status line anew, where someone watches; an empty text wipes it. */
  status(text: string): void;
  /** Prints a line of errors. */
  error(text: string): void;
}

/** The terminal of the process. */
export function processTerminal(): Terminal {
  const isInteractive = Deno.stdout.isTerminal();
  const encoder = new TextEncoder();
  const put = (
    to: { writeSync(bytes: Uint8Array): number },
    text: string,
  ): void => {
    const bytes = encoder.encode(text);
    for (let at = 0; at < bytes.length;) {
      at += to.writeSync(bytes.subarray(at));
    }
  };
  return {
    isInteractive,
    columns: () => {
      try {
        return Deno.consoleSize().columns;
      } catch {
        return 80; // no terminal to ask
      }
    },
    line: (text = "") => put(Deno.stdout, `${text}\n`),
    write: (text) => put(Deno.stdout, text),
    status: (text) => {
      if (isInteractive) put(Deno.stdout, `\r\x1b[2K${text}`);
    },
    error: (text) => put(Deno.stderr, `${text}\n`),
  };
}

/** Breaks text into lines of at most `width` characters, each behind an indent. */
export function wrap(text: string, width: number, indent = "  "): string {
  const room = Math.max(20, width - indent.length);
  return text.split("\n").flatMap((paragraph) => {
    const lines: string[] = [];
    for (const word of paragraph.split(/ +/)) {
      const last = lines.at(-1);
      const fits = last !== undefined &&
        last.length + 1 + word.length <= room;
      if (fits) lines[lines.length - 1] = `${last} ${word}`;
      else lines.push(word);
    }
    return lines;
  }).map((line) => (indent + line).trimEnd()).join("\n");
}
