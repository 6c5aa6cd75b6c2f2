/** A process that the tests start and kill: it counts a visit, says so, and stays. Arguments: the key, the page. */
import process from "node:process";
import { Visits } from "./visits.ts";

const [key, page = "/"] = process.argv.slice(2);
const visits = new Visits(key);
console.log(visits.add(page));
setInterval(() => visits.most(1), 1000); // a server would go on using them
