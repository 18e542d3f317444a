// Time while playing: which place of the piece sounds at which second of the audio clock.

/** How far ahead of the audio clock notes are handed to the voices, in seconds. */
export const LOOK_AHEAD = 0.15;

interface Stretch {
  from: number; // second of the audio clock
  second: number; // second of the piece, at its own tempo
  speed: number; // 0: waiting
}

export class Clock {
  private stretches: Stretch[] = [];

  /** From the clock's second `from` on, the piece goes on from its `second` at `speed`. */
  set(from: number, second: number, speed: number): void {
    this.stretches = this.stretches.filter((stretch) => stretch.from < from).slice(-8);
    this.stretches.push({ from, second, speed });
  }

  reset(): void {
    this.stretches = [];
  }

  /** The piece's second at the audio clock's second `now`. */
  at(now: number): number {
    let found = this.stretches[0];
    for (const stretch of this.stretches) {
      if (stretch.from > now) break;
      found = stretch;
    }
    if (!found) return 0;
    return found.second + Math.max(0, now - found.from) * found.speed;
  }
}
