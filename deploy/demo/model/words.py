"""The word pools that every invented company is made of, and the split between train and test.

Names are pairs of pool words. A hash of the name, not a list, decides whether it is held out,
so that test names can be chosen anywhere without telling the generator.
"""

from __future__ import annotations

import hashlib

ENTITY_WORDS = """
Acorn Agate Alder Almond Alpine Amber Anchor Anvil Apple Apricot Arbor Arch Arctic Arrow Ash Aspen
Aster Atlas Aurora Autumn Azure Badger Balsam Bamboo Banner Barley Basalt Basil Basin Bay Beacon
Bear Beaver Beech Bell Birch Bishop Bison Bloom Blossom Blue Bobcat Bolt Boulder Bramble Brass
Breeze Briar Brick Bridge Bright Brisk Bronze Brook Buffalo Burrow Butter Cabin Cactus Calm Camel
Canal Candle Canyon Cape Caravan Cardinal Carbon Cascade Castle Cavern Cedar Chalk Cherry Chestnut
Cinder Citron Clay Clear Clever Cliff Clover Coast Cobalt Cobra Comet Compass Condor Copper Coral
Cotton Cougar Cove Coyote Cradle Crane Crater Creek Crescent Cricket Crimson Crow Crown Crystal
Curlew Cypress Dahlia Daisy Dale Dawn Deer Delta Desert Diamond Dingo Dolphin Dove Dragon Drift
Drum Dune Dusk Eagle Early Earth East Ebony Echo Eel Elder Elk Elm Ember Emerald Emu Fable Falcon
Feather Fern Ferry Field Finch Fir Fjord Flame Flax Flint Forest Fossil Fox Frost Garden Garnet
Gate Gazelle Gecko Gentle Ginger Glacier Glade Glass Globe Golden Goose Gorge Grain Granite Grape
Grass Gravel Green Grey Grove Gull Hamlet Harbor Hare Harp Harvest Haven Hawk Hazel Heath Heather
Hedge Helm Heron Hickory High Hill Hollow Holly Honey Horizon Hornet Ibex Ibis Indigo Iris Iron
Island Ivory Ivy Jackal Jade Jaguar Jasmine Jasper Jay Jetty Jolly Juniper Jupiter Kelp Kernel
Kestrel Keystone Kindle Kite Kiwi Koala Lagoon Lake Lantern Larch Lark Laurel Lava Lavender Leaf
Ledge Lemon Leopard Lilac Lily Lime Linden Linen Lion Lively Lizard Llama Lobster Locust Lodge
Lotus Low Lucky Lunar Lynx Magnet Magpie Mallard Mango Maple Marble Marigold Marlin Marsh Marten
Meadow Melon Mercury Merlin Mesa Meteor Mill Mint Mirror Mist Moon Moose Moss Moth Mountain
Mulberry Mustang Myrtle Nectar Needle Nettle Newt Night Nimble Noble North Nova Nutmeg Oak Oasis
Oat Ocean Ochre Olive Onyx Opal Orange Orbit Orchard Orchid Oriole Osprey Otter Owl Oyster Palm
Panda Panther Paper Parrot Pearl Pebble Pecan Pelican Penguin Pepper Petrel Pewter Pigeon Pike
Pilot Pine Pioneer Plain Planet Plover Plum Polar Pond Poplar Poppy Prairie Prism Puffin Puma
Purple Python Quail Quarry Quartz Quick Quiet Quill Rabbit Radish Rain Ranger Rapid Raven Reed
Reef Ridge River Robin Rocket Rook Rose Rowan Royal Ruby Rush Russet Rustic Sable Saddle Saffron
Sage Sail Salmon Sand Sapphire Saturn Scarlet Sea Seal Sequoia Shadow Shell Sierra Signal Silent
Silk Silver Sky Slate Snow Solar Sorrel South Spark Sparrow Spring Spruce Squid Stag Star Steel
Stone Stork Storm Stream Summer Summit Sun Swallow Swan Swift Sycamore Tamarin Tango Tawny Teal
Temple Tern Thistle Thorn Thrush Thunder Tide Tiger Timber Topaz Torch Toucan Tower Trail Trout
Tulip Tundra Turtle Twilight Umber Upland Vale Valley Vapor Velvet Venus Violet Viper Vista Volcano
Walnut Walrus Warbler Water Wave Weasel Weaver West Whale Wheat White Wild Willow Wind Winter Wolf
Wood Wren Yarrow Yellow Yew Yonder Zebra Zenith Zephyr Zinc
""".split()

FIRST_NAMES = """
Ada Adam Agnes Alan Alba Alma Amir Ana Andre Anita Anna Anton Aria Arlo Arne Astrid Ben Bianca
Boris Bruno Carl Carla Cato Celia Chen Clara Cleo Colin Cora Dana Dario David Della Diego Dina
Dora Edgar Edith Elena Elias Ella Elsa Emil Emma Enzo Erik Erin Esther Eva Ezra Felix Fiona Flora
Franz Freya Gina Grace Greta Hana Hanna Hans Hector Heidi Helen Henry Hugo Ida Igor Ilse Ines Ingrid
Irene Isaac Ivan Jana Jane Jared Jens Joel Johan Jonas Judith Julia Kai Karin Karl Katya Keiko
Kenji Kira Klara Kurt Lara Lars Laura Lea Leo Leon Lena Liam Lina Lola Lorna Lucas Lucia Luis Lydia
Mae Maja Marc Marco Maria Marta Martin Mara Mateo Maya Mei Mila Milo Mina Mona Nadia Naomi Nico
Nina Noah Nora Olga Oleg Olivia Omar Oscar Otto Owen Pablo Paul Paula Pedro Petra Pia Rafael Ravi
Rhea Rita Robert Rosa Ruben Ruth Sami Samuel Sara Selma Silas Simon Sofia Sonia Stella Sven Tara
Thea Theo Tilda Tim Tobias Tom Uma Ursula Vera Victor Viola Walter Wanda Wendy Yara Yusuf Zara Zoe
""".split()

LAST_NAMES = """
Abbott Adler Albrecht Alonso Amsel Archer Arden Arnold Baker Barlow Barnes Becker Bell Bennett
Berger Blake Bloch Boyd Brandt Brooks Burke Burton Cairns Calder Carver Castro Chandler Cho Clarke
Cohen Collins Conti Cooper Costa Crane Cruz Dalton Davies Decker Delgado Dietz Dixon Dolan Doyle
Draper Duarte Duncan Ekman Ellis Engel Farrell Fischer Fisher Fleming Flores Forster Foster Fowler
Frank Fraser Fuchs Gallo Garcia Gardner Gibson Gomez Graham Grant Haas Hahn Hale Hall Hansen Harper
Hart Hayes Hobbs Hoffman Holm Howard Hughes Hunt Ibarra Ito Jansen Jensen Jordan Kaur Keller Kelly
Kern Khan Kim King Klein Knight Koch Kovacs Kramer Kruger Lambert Lang Larsen Lawson Lehmann Lind
Lopez Lowe Lund Maier Malik Marsh Mason Mehta Mercer Meyer Miller Mills Monroe Moreno Morgan Moss
Muller Nakamura Nash Navarro Nilsson Novak Nowak Okafor Olsen Ortega Osman Page Park Parker Patel
Pavlov Payne Pereira Perez Petersen Pires Porter Quill Quinn Ramos Reyes Richter Rios Rivera Romano
Rossi Roth Rowe Russo Ryan Sander Santos Sato Schmidt Schulz Shaw Silva Singh Sommer Soto Stein
Stone Suzuki Sykes Tanaka Thorne Torres Tran Turner Vance Varga Vega Vogel Wagner Walsh Ward Weber
Wells Werner West Winter Wolf Wright Yamada Yates Young Zhang Ziegler Zimmer
""".split()

PLACES = """
Aberton Ashford Bergen Bilton Bradwell Brenton Bristol Calderby Carlow Cork Dalby Davos Delft Dover
Elmstead Esker Fairport Falmouth Galway Genoa Ghent Glenrock Graz Grenoble Halden Harwick Helsinki
Inverloch Kemble Kilmore Kirkby Leeds Leiden Lille Linz Lisbon Lucerne Lund Malmo Marwell Milan
Narvik Newbury Norwich Oakham Odense Oslo Oxley Perth Porto Prague Ravenna Riga Rosedale Rouen
Salford Seville Stafford Tallinn Tampere Tarbert Torino Trier Turku Utrecht Valencia Verona Vienna
Warwick Westport Whitby Wismar Yarmouth York Zagreb Zurich
""".split()

COMPANY_HEADS = """
Ash Birch Black Bray Brent Brook Cald Clay Cole Corn Dale Dun East Elm Fair Fal Fern Glen Gold
Green Hale Har Hart Haw Hazel High Hol Hurst Kel Kings Lam Land Lin Lock Long Mar May Mel Mill Mor
Nether New Nor North Oak Old Pem Pen Red Rock Ros Row Sal Sand Sea Shel South Stan Stone Sum Sut
Thorn Tor Wal War Wel West Whit Wil Win Wood
""".split()

COMPANY_TAILS = """
bank bridge brook burn bury by combe cote croft dale den don fell field ford gate ham hill holm
holt hurst land leigh ley lock lyn mere mont moor more port ridge shaw side stead stone stow thorpe
ton wald water way well wick wold wood worth
""".split()

COLOURS = """
red blue green yellow orange purple pink brown black white grey silver gold teal violet turquoise
beige crimson navy cream maroon amber scarlet olive bronze ivory
""".split()

RELATION_MODIFIERS = """
annual monthly weekly daily standard maximum minimum usual first second main spare extra basic full
travel training meal phone home office sick parental holiday parking visitor night weekend winter
summer customer supplier repair delivery return service support sales storage cleaning safety test
backup data battery screen sensor software hardware password badge contract project budget expense
invoice payment salary bonus pension insurance moving internet laptop printer room desk lunch
shuttle bicycle locker key emergency fire first-aid quality security release launch review planning
external internal temporary permanent late early regional national online paper new old
""".split()

RELATION_HEADS = """
allowance fee price budget deposit discount limit rate share target bonus grant fine charge cost
period time deadline date day start end window duration lifetime interval length age size weight
height width range speed capacity stock count number code colour level floor room shelf zone
location address office site place owner lead manager contact sponsor coach reviewer author
supervisor approver deputy coordinator extension hotline mailbox channel form label tag format
supplier vendor partner tool method material fuel drink dish topic language
""".split()

ENTITY_KINDS = """
team product project office room tool service supplier policy vehicle lab event plant warehouse
course report machine sensor robot app database server printer camera kit plan programme workshop
store clinic garden bus committee club depot studio pump engine drone tablet platform fund
""".split()

ADJECTIVES = """
blank broken careful clean closed cold common correct dark deep digital double dry empty fair flat
folded fresh general glossy half hard heavy hidden hollow honest hot large late light linked liquid
local long loose main matte medium metal mixed mobile narrow neat new numbered old open padded plain
plastic printed private public ready recycled round rough sealed secure separate shared sharp short
signed simple single slim small smooth soft solid spare special stamped steady strong thick thin
tidy tinted tiny used warm waterproof weekly wet wide wired wireless wooden woollen written
""".split()

NOUNS = """
adapter apron arm bag balcony bar barrel barrier basket battery belt bench bike blanket boat book
boot bottle bowl box bracket brush bucket bulb button cabinet cable cake canteen canvas card carpet
cart case chain chair chart checklist clip clock cloth coat coffee container copy corridor counter
cover crate cup curtain cushion cylinder diary dish disk door drawer drill entrance envelope fabric
fan felt filter flag flask foil folder fork frame fridge fuse glove glue gown hammer handle hat
helmet hook hose jacket jar juice kettle kitchen ladder lamp leaflet leather lever lid lift list
lobby lock map mask mat menu mug nail notebook nylon oil oven pad page paint pallet pan panel parcel
password patch pen pencil phone pipe plate plug pocket poster pouch receipt reception register resin
ribbon ring rope rubber ruler sack salad sandwich scale scarf screen screw sheet shelf shirt shoe
sign sink slip soap sofa soup spoon stairs stamp stand sticker stool strap survey switch table tape
tea tent terminal ticket tile tin torch towel tray trolley tube umbrella valve van vest video vinyl
voucher wagon wall wallet wax wheel whistle window wire wool wrench zip
""".split()

STAFF = """
employees|all employees|new employees|full-time employees|part-time employees|contractors|interns|
visitors|guests|managers|team leads|apprentices|drivers|engineers|temporary staff|night staff|
warehouse staff|office staff|field workers|trainees|customers|new customers|business customers|
suppliers|volunteers|students|parents|members|colleagues|department heads|shift workers|everyone
""".replace("\n", "").split("|")


def is_held_out(name: str) -> bool:
    """Whether a name or value string belongs to the test split; about one in ten does."""
    digest = hashlib.sha256(name.strip().lower().encode()).digest()
    return digest[0] % 10 == 0
