// Quarter notes to seconds and back, along the tempos of a piece.

import type { Tempo } from "../api/types";

const DEFAULT_BPM = 120;

interface Step {
  quarter: number;
  second: number;
  bpm: number;
}

export class TempoMap {
  private readonly steps: Step[];

  constructor(tempos: readonly Tempo[]) {
    const sorted = [...tempos].filter((tempo) => tempo.bpm > 0).sort((a, b) => a.start - b.start);
    this.steps = [{ quarter: 0, second: 0, bpm: sorted[0]?.bpm ?? DEFAULT_BPM }];
    for (const tempo of sorted) {
      const last = this.steps[this.steps.length - 1] as Step;
      const second = last.second + ((tempo.start - last.quarter) * 60) / last.bpm;
      if (tempo.start > last.quarter) {
        this.steps.push({ quarter: tempo.start, second, bpm: tempo.bpm });
      } else {
        last.bpm = tempo.bpm;
      }
    }
  }

  seconds(quarter: number): number {
    const step = this.stepBefore((candidate) => candidate.quarter <= quarter);
    return step.second + ((quarter - step.quarter) * 60) / step.bpm;
  }

  quarter(second: number): number {
    const step = this.stepBefore((candidate) => candidate.second <= second);
    return step.quarter + ((second - step.second) * step.bpm) / 60;
  }

  bpm(quarter: number): number {
    return this.stepBefore((candidate) => candidate.quarter <= quarter).bpm;
  }

  private stepBefore(holds: (step: Step) => boolean): Step {
    let found = this.steps[0] as Step;
    for (const step of this.steps) {
      if (!holds(step)) break;
      found = step;
    }
    return found;
  }
}
