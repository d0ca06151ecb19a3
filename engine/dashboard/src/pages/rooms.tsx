// Where most is said, and who cannot keep up.

import { BusiestRooms } from "../parts/busiest.tsx";
import { SlowConsumers } from "../parts/slow.tsx";

/** As many as the server tells. */
const ROWS_MAX = 20;

export function RoomsPage() {
  return (
    <>
      <div class="page-head">
        <div>
          <h1 tabIndex={-1}>Rooms</h1>
          <p class="lead">Where most is delivered, and for whom most waits. Twenty of each at the most.</p>
        </div>
      </div>
      <section class="card" aria-labelledby="busiest-title">
        <div class="card-head">
          <h2 id="busiest-title">Busiest rooms</h2>
        </div>
        <BusiestRooms rowsMax={ROWS_MAX} />
      </section>
      <section class="card" aria-labelledby="slow-title">
        <div class="card-head">
          <h2 id="slow-title">Slow consumers</h2>
        </div>
        <SlowConsumers rowsMax={ROWS_MAX} />
      </section>
    </>
  );
}
