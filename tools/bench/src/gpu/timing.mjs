// Time of one op on the device, measured from Node: enqueue it many times, wait for the stream, divide.
//
// Small kernels take less than it takes to enqueue them. They are measured as decode runs them, as part of a CUDA graph
// (stream.graph), behind a large GEMM that keeps the device busy while the host enqueues; the GEMM's own time, measured
// alone, is subtracted. A cycle of calls uses different buffers, so that nothing is read from a cache it would not be in.

/** @returns {number} the middle of a list of numbers */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

async function elapsed(stream, body) {
  await stream.synchronize();
  const started = performance.now();
  body();
  const enqueued = performance.now();
  await stream.synchronize();
  return { total: performance.now() - started, host: enqueued - started };
}

export class Timer {
  /**
   * @param stream the stream everything runs on
   * @param {() => void} blocker enqueues one op that takes about a millisecond
   * @param {{ samples: number }} options
   */
  constructor(stream, blocker, { samples }) {
    this.stream = stream;
    this.blocker = blocker;
    this.samples = samples;
  }

  /**
   * @param {(i: number) => void} call enqueues the op with buffers number i modulo `cycle`
   * @param {number} cycle how many sets of buffers there are
   * @returns {Promise<{ us: number, hostUs: number, calls: number, behind: boolean, kernels: string[] }>} microseconds a
   *   call, median, and the kernels of one call
   */
  async measure(call, cycle = 1) {
    await elapsed(this.stream, () => call(0)); // loads the kernel
    const before = this.stream.kernels();
    const single = await elapsed(this.stream, () => call(0));
    const after = this.stream.kernels();
    const kernels = Object.keys(after).filter((name) => after[name] !== before[name]);
    return { kernels, ...(await this.#choose(call, cycle, single.total)) };
  }

  async #choose(call, cycle, single) {
    if (single > 20) return await this.#plain(call, cycle, single);
    const probe = Math.max(cycle, 4);
    const once = () => {
      for (let i = 0; i < probe; i++) call(i % cycle);
    };
    await elapsed(this.stream, once);
    const estimate = (await elapsed(this.stream, once)).total / probe;
    if (estimate > 0.4) return await this.#plain(call, cycle, estimate);
    return await this.#behind(call, cycle);
  }

  /** Calls that take long enough for the host to stay ahead. */
  async #plain(call, cycle, estimate) {
    const calls = Math.max(1, Math.min(200, Math.round(30 / estimate)));
    const samples = estimate > 100 ? 3 : this.samples;
    const times = [];
    for (let s = 0; s < samples; s++) {
      times.push(
        await elapsed(this.stream, () => {
          for (let i = 0; i < calls; i++) call(i % cycle);
        }),
      );
    }
    return this.#result(
      times.map(({ total }) => total),
      times,
      calls,
      false,
    );
  }

  /** Small calls, in graphs, behind a blocker. */
  async #behind(call, cycle) {
    const { stream } = this;
    const inGraph = cycle * Math.ceil(32 / cycle);
    const calls = inGraph * Math.ceil(256 / inGraph);
    const replay = () => {
      for (let done = 0; done < calls; done += inGraph) {
        stream.graph(() => {
          for (let i = 0; i < inGraph; i++) call(i % cycle);
        });
      }
    };
    for (let s = 0; s < 3; s++) await elapsed(stream, replay);
    // The blocker must last longer than it takes to enqueue everything behind it, on both threads that take part.
    const { total } = await elapsed(stream, replay);
    const one = median(await this.#repeat(() => this.blocker()));
    const blockers = Math.ceil((1.5 * total) / one) + 1;
    const block = () => {
      for (let i = 0; i < blockers; i++) this.blocker();
    };
    const alone = [];
    const both = [];
    // In turn, so that a clock that drifts drifts for both.
    for (let s = 0; s < this.samples; s++) {
      alone.push((await elapsed(stream, block)).total);
      both.push(
        await elapsed(stream, () => {
          block();
          replay();
        }),
      );
    }
    const base = median(alone);
    return this.#result(
      both.map(({ total }) => total - base),
      both,
      calls,
      true,
    );
  }

  async #repeat(body) {
    const times = [];
    for (let s = 0; s < 3; s++) times.push((await elapsed(this.stream, body)).total);
    return times;
  }

  #result(totals, times, calls, behind) {
    return {
      us: (1000 * median(totals)) / calls,
      hostUs: (1000 * median(times.map(({ host }) => host))) / calls,
      calls,
      behind,
    };
  }
}
